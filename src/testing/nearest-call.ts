/** Which recorded call is most like one that was not recorded, and where they part. */

export type Difference = { path: string; recorded: unknown; got: unknown };

/** Where two JSON values differ, in the order of the recorded one. */
function differencesOf(recorded: unknown, got: unknown, path: string): Difference[] {
  if (Object.is(recorded, got)) return [];
  if (Array.isArray(recorded) && Array.isArray(got)) {
    const length = Math.max(recorded.length, got.length);
    return Array.from({ length }, (_, i) => differencesOf(recorded[i], got[i], `${path}[${i}]`)).flat();
  }
  if (!isObject(recorded) || !isObject(got)) return [{ path, recorded, got }];
  const keys = new Set([...Object.keys(recorded), ...Object.keys(got)]);
  return [...keys].flatMap((key) => differencesOf(recorded[key], got[key], path === "" ? key : `${path}.${key}`));
}

/** The most similar of several: the one that differs in the fewest places, and in texts by the least. */
export function nearest(
  recorded: readonly unknown[],
  got: unknown,
): { index: number; differences: Difference[] } | undefined {
  let best: { index: number; differences: Difference[]; distance: number } | undefined;
  for (const [index, value] of recorded.entries()) {
    const differences = differencesOf(value, got, "");
    const distance = differences.reduce((sum, difference) => sum + weightOf(difference), 0);
    if (!best || distance < best.distance) best = { index, differences, distance };
  }
  return best;
}

/** Between 0 and 1: of texts how much is not the same at their beginning and their end. */
function weightOf({ recorded, got }: Difference): number {
  if (typeof recorded !== "string" || typeof got !== "string") return 1;
  const [shorter, longer] = recorded.length < got.length ? [recorded, got] : [got, recorded];
  const begin = sameFrom(shorter, longer, (i) => i);
  const end = sameFrom(shorter.slice(begin), longer.slice(begin), (i, { length }) => length - 1 - i);
  return 1 - (begin + end) / longer.length;
}

/** How many characters are the same, each looked up by its place. */
function sameFrom(a: string, b: string, at: (i: number, text: string) => number): number {
  let same = 0;
  while (same < a.length && a[at(same, a)] === b[at(same, b)]) same += 1;
  return same;
}

/** A difference as a line; of long texts the part where they differ. */
export function describeDifference({ path, recorded, got }: Difference): string {
  const [was, is] =
    typeof recorded === "string" && typeof got === "string" ? excerpts(recorded, got) : [shown(recorded), shown(got)];
  return `${path}: recorded ${was}, got ${is}`;
}

const BEFORE = 20;
const LONGEST = 80;

function excerpts(recorded: string, got: string): [string, string] {
  const from = Math.max(0, sameFrom(recorded, got, (i) => i) - BEFORE);
  return [excerpt(recorded, from), excerpt(got, from)];
}

function excerpt(text: string, from: number): string {
  const part = text.slice(from, from + LONGEST);
  return JSON.stringify(`${from > 0 ? "…" : ""}${part}${from + LONGEST < text.length ? "…" : ""}`);
}

function shown(value: unknown): string {
  const text = JSON.stringify(value);
  if (text === undefined) return "nothing";
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

function isObject(value: unknown): value is { [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
