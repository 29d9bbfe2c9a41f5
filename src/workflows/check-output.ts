/** Schemas where values cross: what a step or a run gives, held to what its definition promises. */
import { validateOutput } from "../actors/schemas.ts";
import type { ErrorRecord } from "../errors.ts";
import type { Move, Plan } from "./plan.ts";

type Schema = { [key: string]: unknown };

/** Why an output does not fit; undefined where it does, or where nothing is promised. */
export function badOutput(schema: Schema | undefined, output: unknown): ErrorRecord | undefined {
  if (schema === undefined) return undefined;
  const checked = validateOutput(schema, output);
  return checked.ok ? undefined : { code: "bad_output", message: `output: ${checked.problems.join("; ")}` };
}

/** A plan whose run fails where its output does not fit. */
export function withCheckedOutput<State>(plan: Plan<State>, schema: Schema | undefined): Plan<State> {
  if (schema === undefined) return plan;
  const check = ({ state, moves }: { state: State; moves: Move[] }) => ({ state, moves: moves.map(checked) });
  return {
    ...plan,
    begin: (...given) => check(plan.begin(...given)),
    proceed: (...given) => check(plan.proceed(...given)),
  };

  function checked(move: Move): Move {
    const error = move.type === "complete" ? badOutput(schema, move.output) : undefined;
    return error ? { type: "fail", error } : move;
  }
}
