/** What a run owes: steps it has completed and has to undo when it fails. */
import type { ExpressionScope } from "./expressions.ts";

/** A completed step that has to be undone when the run fails. Plain data; of what came before, it has what its template names. */
export type Debt = {
  /** The path of the instance. */
  readonly step: string;
  /** The task that completed it; what waited for something from outside had none. */
  readonly taskId?: string;
  readonly scope: DebtScope;
};

/** What the input of a compensation is made from, as it was when its step completed. */
export type DebtScope = Pick<ExpressionScope, "steps" | "previous" | "output" | "item" | "last"> & { index?: number };

/** What the path of a compensation ends in. */
export const COMPENSATE = "/compensate";
