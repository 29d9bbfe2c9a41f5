/** What a step is given when its definition does not say. */

/** A step that came before, and what it gave. */
export type PreviousOutput = { step: string; output: unknown };

/**
 * The default input of a chain: a first step gets the request's input as it is; a later one gets a text that holds the
 * original request and the output of every step it comes after, each clearly marked.
 */
export function defaultChainInput(requestInput: unknown, previousOutputs: readonly PreviousOutput[]): unknown {
  if (previousOutputs.length === 0) return requestInput;
  const outputs = previousOutputs.map(({ step, output }) => marked("output", ` step="${step}"`, output));
  return [marked("request", "", requestInput), ...outputs].join("\n\n");
}

function marked(tag: string, attributes: string, value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return `<${tag}${attributes}>\n${text}\n</${tag}>`;
}

/** `previous` in a template: the output of the one step before, or of several by id. Absent for a first step. */
export function previousInScope(previousOutputs: readonly PreviousOutput[]): { previous?: { output: unknown } } {
  const [only] = previousOutputs;
  if (only === undefined) return {};
  if (previousOutputs.length === 1) return { previous: { output: only.output } };
  return { previous: { output: Object.fromEntries(previousOutputs.map(({ step, output }) => [step, output])) } };
}
