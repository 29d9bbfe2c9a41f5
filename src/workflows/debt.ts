/** What a run owes: steps it has completed and has to undo when it fails. */
import type { ExpressionScope } from "./expressions.ts";

/** A completed step that has to be undone when the run fails. Plain data; of what came before, it has what its template names. */
export type Debt = {
  /** The path of the instance. */
  readonly step: string;
  /** The step of the definition, by which its compensation is found. */
  readonly of: string;
  /** The task that completed it. */
  readonly taskId: string;
  readonly scope: Pick<ExpressionScope, "steps" | "previous" | "output">;
};

/** What the path of a compensation ends in. */
export const COMPENSATE = "/compensate";
