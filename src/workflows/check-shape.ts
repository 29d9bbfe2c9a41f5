/** Which keys of a step go together. */
import { type Place, placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import type { Problem } from "../errors.ts";
import { STEP_KEYS, type StepDraft } from "./definition-schema.ts";

/** What is wrong with the keys of a step; `place` is the step's. */
export function checkShape(draft: StepDraft, place: Place): Problem[] {
  const { steps, forEach, repeat, concurrency } = draft;
  const problems: Problem[] = [];
  const told = (keys: string, expected: string, got: string) =>
    problems.push(problemAt(placeAt(place, ...keys.split(".")), expected, got));
  const given = STEP_KEYS.filter((key) => draft[key] !== undefined);
  if (given.length !== 1) {
    const words = STEP_KEYS.map((key) => `\`${key}\``).join(", ");
    problems.push(problemAt(placeAt(place), `one of ${words}`, given.length === 0 ? "none" : given.join(" and ")));
  }
  if (forEach !== undefined && repeat) {
    told("repeat", "no `repeat` beside `forEach`: one of them around `steps` with the other", showValue(repeat));
  }
  if (repeat && repeat.until === undefined) told("repeat.until", "a condition in CEL", "nothing");
  if (repeat && repeat.max === undefined) told("repeat.max", "how often at most, from 1 to 10000", "nothing");
  if (concurrency !== undefined && forEach === undefined) {
    told("concurrency", "no `concurrency` where there is no `forEach`", showValue(concurrency));
  }
  // What waits is tried once, and has limits of its own.
  const waiting = draft.approval ? "approval" : draft.wait ? "wait" : undefined;
  for (const key of waiting ? (["input", "retry", "timeoutMs"] as const) : []) {
    if (draft[key] !== undefined) told(key, `no \`${key}\` on a step with \`${waiting}\``, showValue(draft[key]));
  }
  // A group is no task: what would be tried again or undone are the tasks in it.
  for (const key of steps ? (["retry", "output", "compensate"] as const) : []) {
    if (draft[key] === undefined) continue;
    told(key, `no \`${key}\` beside \`steps\`; each step in it may have one`, showValue(draft[key]));
  }
  return problems;
}
