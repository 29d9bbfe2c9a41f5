/** What changed between two versions of something written, by path. */
import { joinPath } from "../actors/schema-problems.ts";

/** One difference; what was added has no `before`, what was removed no `after`. */
export type Difference = { path: string; before?: unknown; after?: unknown };

/** Compares two values of data. Entries of lists are told apart by their `id` where all have one, else by their place. */
export function diffData(before: unknown, after: unknown, path = ""): Difference[] {
  const old = entriesOf(before);
  const young = entriesOf(after);
  if (!old || !young || old.kind !== young.kind) return same(before, after) ? [] : [{ path, before, after }];
  const keys = new Set([...old.entries.keys(), ...young.entries.keys()]);
  const differences = [...keys].flatMap((key) => {
    const below = joinPath(path, [key]);
    if (!young.entries.has(key)) return [{ path: below, before: old.entries.get(key) }];
    if (!old.entries.has(key)) return [{ path: below, after: young.entries.get(key) }];
    return diffData(old.entries.get(key), young.entries.get(key), below);
  });
  const isMoved =
    old.kind === "by id" && differences.length === 0 && !same([...old.entries.keys()], [...young.entries.keys()]);
  return isMoved ? [{ path, before: [...old.entries.keys()], after: [...young.entries.keys()] }] : differences;
}

type Entries = { kind: "by key" | "by id" | "by place"; entries: Map<string | number, unknown> };

function entriesOf(value: unknown): Entries | undefined {
  if (Array.isArray(value)) {
    const ids = value.map(idOf);
    const isById = value.length > 0 && ids.every((id) => id !== undefined) && new Set(ids).size === ids.length;
    if (isById) return { kind: "by id", entries: new Map(value.map((item, index) => [ids[index] ?? index, item])) };
    return { kind: "by place", entries: new Map(value.map((item, index) => [index, item])) };
  }
  if (typeof value !== "object" || value === null) return undefined;
  return { kind: "by key", entries: new Map(Object.entries(value)) };
}

function idOf(value: unknown): string | undefined {
  const id = typeof value === "object" && value !== null && "id" in value ? value.id : undefined;
  return typeof id === "string" ? id : undefined;
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
