/** What a step is given when its definition does not say. */
import type { ExpressionScope, StepEnd } from "./expressions.ts";

/** A step that came before, and how it ended. */
export type PreviousStep = { step: string; end: StepEnd };

/**
 * The default input of a chain: a first step gets the request's input as it is; a later one gets a text that holds the
 * original request and what every step it comes after gave, an output or an error, each clearly marked. Skipped steps gave
 * nothing; after none but these a step is like a first one.
 */
export function defaultChainInput(requestInput: unknown, previous: readonly PreviousStep[]): unknown {
  const given = previous.flatMap(({ step, end }) => {
    if (end.status === "skipped") return [];
    if (end.status === "completed") return [marked("output", ` step="${step}"`, end.output)];
    return [marked("error", ` step="${step}"`, `${end.error.code}: ${end.error.message}`)];
  });
  return given.length === 0 ? requestInput : [marked("request", "", requestInput), ...given].join("\n\n");
}

/**
 * The default input of a step that takes values and not words, a tool or another workflow: what the step before gave, of
 * several what each gave by its id; the request's input where none gave anything.
 */
export function defaultValueInput(requestInput: unknown, previous: readonly PreviousStep[]): unknown {
  const given = previous.flatMap(({ step, end }) => (end.status === "completed" ? [[step, end.output] as const] : []));
  const [only] = given;
  if (only === undefined) return requestInput;
  return previous.length === 1 ? only[1] : Object.fromEntries(given);
}

function marked(tag: string, attributes: string, value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return `<${tag}${attributes}>\n${text}\n</${tag}>`;
}

/** `previous` in an expression: the one step before, or the outputs of several by id. Absent for a first step. */
export function previousInScope(previous: readonly PreviousStep[]): Pick<ExpressionScope, "previous"> {
  const [only] = previous;
  if (only === undefined) return {};
  if (previous.length === 1) return { previous: only.end };
  const outputs = previous.flatMap(({ step, end }) =>
    end.status === "completed" ? [[step, end.output] as const] : [],
  );
  return { previous: { output: Object.fromEntries(outputs) } };
}
