/** The entries of a section: a map by name in files, a list of things with names in TypeScript. */
import { joinPath, placeAt, problemAt, showValue } from "../../actors/schema-problems.ts";
import type { Problem } from "../../errors.ts";

/** One entry and where it stands. */
export type NamedEntry = { name: string; raw: unknown; path: string };

/** Gives the entries of `section`, which stands at `base`; names that are missing or come twice go into `problems`. */
export function namedEntries(
  section: { readonly [name: string]: unknown } | readonly unknown[],
  base: string,
  { file, problems }: { file: string; problems: Problem[] },
): NamedEntry[] {
  if (!Array.isArray(section)) {
    return Object.entries(section).flatMap(([name, raw]) => {
      const entry = { name, raw, path: joinPath(base, [name]) };
      const own = nameOf(raw);
      if (own === undefined || own === name) return [entry];
      problems.push(problemAt(placeAt({ file, path: entry.path }, "name"), showValue(name), showValue(own)));
      return [];
    });
  }
  const names = section.map(nameOf);
  return section.flatMap((raw: unknown, index) => {
    const name = names[index];
    const place = { file, path: joinPath(base, [index]) };
    if (typeof name !== "string" || name === "") {
      problems.push(problemAt(placeAt(place, "name"), "a name", showValue(name)));
    } else if (names.indexOf(name) !== index) {
      problems.push(problemAt(placeAt(place, "name"), "a name no other one has", showValue(name)));
    } else return [{ name, raw, path: joinPath(base, [name]) }];
    return [];
  });
}

function nameOf(raw: unknown): unknown {
  return typeof raw === "object" && raw !== null && "name" in raw ? raw.name : undefined;
}
