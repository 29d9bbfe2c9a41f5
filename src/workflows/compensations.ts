/** What the compensation of a step is asked, and what of the run has to be kept for that when the step completes. */
import type { DebtScope } from "./debt.ts";
import type { ExpressionScope, FailureInScope, LocalVariable } from "./expressions.ts";
import type { RunSetup } from "./plan.ts";
import type { InputForm } from "./step-scope.ts";
import { evaluateTemplate, expressionsIn, type Template } from "./templates.ts";

/** Where a compensation is asked for something. */
type Undone = { step: string; scope: DebtScope; setup: RunSetup; error: FailureInScope };

export type Compensation = {
  /** What is to be kept of `scope`, which has the step's output. */
  keep(scope: ExpressionScope): DebtScope;
  /** @throws TroupeError `template_failed` */
  inputOf(undone: Undone): unknown;
};

/** A compensation with a compiled input; without one an agent is asked in a text with all there is to know, a tool gets the output. */
export function compensationWith(workflow: string, template: Template | undefined, form: InputForm): Compensation {
  const named = new Set<LocalVariable>(
    template ? expressionsIn(template).flatMap(({ locals }) => locals) : (["output"] as const),
  );
  return {
    keep({ steps, previous, output, item, last, index }) {
      return {
        steps,
        ...(previous !== undefined && { previous }),
        ...(named.has("output") && { output }),
        ...(named.has("item") && { item }),
        ...(named.has("last") && { last }),
        // Plain data has no integers of CEL.
        ...(named.has("index") && { index: Number(index) }),
      };
    },
    inputOf({ step, scope: { index, ...scope }, setup, error }) {
      const { input } = setup.request;
      if (!template && form === "values") return scope.output;
      if (!template) return defaultInput({ step, request: input, output: scope.output, error });
      const run = { id: setup.runId, workflow };
      const at = index !== undefined && { index: BigInt(index) };
      return evaluateTemplate(template, { input, session: {}, run, ...scope, ...at, error });
    },
  };
}

type Told = { step: string; request: unknown; output: unknown; error: FailureInScope };

/** As a step's default input: each part clearly marked. */
function defaultInput({ step, request, output, error }: Told): string {
  const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  return [
    `<request>\n${text(request)}\n</request>`,
    `<output step="${step}">\n${text(output)}\n</output>`,
    `<error>\n${error.code}: ${error.message}\n</error>`,
  ].join("\n\n");
}
