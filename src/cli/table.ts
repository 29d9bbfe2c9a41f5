/** Lists for people. */
import { dim } from "./style.ts";
import { pad, widthOf } from "./terminal-text.ts";

/** Aligns rows under their titles; a column in which nothing stands is left out. Cells are one line each. */
export function renderTable(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const used = titles.map((_, column) => column).filter((column) => rows.some((row) => row[column]));
  const widths = used.map((column) => Math.max(...[titles, ...rows].map((row) => widthOf(row[column] ?? ""))));
  const line = (row: readonly string[]) =>
    used
      .map((column, i) => pad(row[column] ?? "", widths[i] ?? 0))
      .join("  ")
      .trimEnd();
  return [dim(line(titles)), ...rows.map(line)].join("\n");
}

/** Aligns facts under each other, each after its name; facts that are undefined are left out. */
export function renderFacts(facts: readonly (readonly [string, string | undefined])[]): string {
  const told = facts.filter((fact): fact is [string, string] => fact[1] !== undefined);
  const width = Math.max(0, ...told.map(([name]) => name.length));
  return told.map(([name, value]) => `${dim(name.padEnd(width))}  ${value}`).join("\n");
}
