/** Which steps of a run are worth a line each: of a list of thousands it is what goes on and what went wrong. */
import type { RunRecord, StepRecord } from "../workflows/run-record.ts";

/** A step to be shown, how deep it stands, and for lists and repetitions how far they are. */
export type StepRow = { step: StepRecord; depth: number; done?: string };

/** A list of more items is summed up. */
const MANY_ITEMS = 12;
/** Of what is in such a list so many are shown that are at work, and so many that failed. */
const SHOWN = 4;

const NUMBER = new Intl.NumberFormat("en");

/** The steps in the order of their groups, those of long lists only where there is something to see. */
export function stepRows({ steps }: Pick<RunRecord, "steps">): StepRow[] {
  if (steps.every(({ group }) => group === undefined)) return steps.map((step) => ({ step, depth: 0 }));
  const groups = new Map(steps.filter(({ group }) => group !== undefined).map((step) => [step.id, step]));
  const ended = new Map<string, number>();
  const below = new Map<string, StepRecord[]>();
  for (const step of steps) {
    const above = parentOf(step.id);
    const beside = below.get(above);
    if (beside) beside.push(step);
    else below.set(above, [step]);
    if (isEnded(step)) ended.set(above, (ended.get(above) ?? 0) + 1);
  }
  return rowsBelow("", 0);

  function rowsBelow(path: string, depth: number): StepRow[] {
    const group = groups.get(path)?.group;
    const inside = below.get(path) ?? [];
    const shown = group?.type === "forEach" && group.size > MANY_ITEMS ? worthALine(inside) : inside;
    return shown.flatMap((step) => {
      const done = doneOf(step, ended.get(step.id) ?? 0);
      return [{ step, depth, ...(done !== undefined && { done }) }, ...rowsBelow(step.id, depth + 1)];
    });
  }
}

function worthALine(items: readonly StepRecord[]): StepRecord[] {
  const running = items.filter((step) => !isEnded(step)).slice(0, SHOWN);
  const failed = items.filter(({ status }) => status === "failed").slice(0, SHOWN);
  return [...new Set([...failed, ...running])];
}

function doneOf({ group, status, exhausted }: StepRecord, ended: number): string | undefined {
  if (!group || group.type === "steps") return undefined;
  if (group.type === "forEach") return `${NUMBER.format(ended)}/${NUMBER.format(group.size)}`;
  const times = status === "running" ? ended + 1 : ended;
  return `${NUMBER.format(times)}${exhausted ? ` of at most ${NUMBER.format(group.size)}, given up` : "×"}`;
}

function isEnded({ status }: StepRecord): boolean {
  return status !== "running" && status !== "waiting" && status !== "retrying";
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}
