/** What a zod schema checks or does that JSON Schema has no words for. */
import { z } from "zod";
import { joinPath } from "./schema-problems.ts";

/** One thing that would be lost, and where in the value it stands. */
export type Inexpressible = { path: string; what: string };

const TYPES: { readonly [type: string]: string } = {
  transform: "a transform",
  custom: "a check by a function",
  default: "a default",
  prefault: "a default",
  catch: "a value for what does not fit",
  date: "a date",
  bigint: "a bigint",
  symbol: "a symbol",
  map: "a map",
  set: "a set",
  nan: "NaN",
  undefined: "undefined",
  void: "undefined",
};
const CHECKS: { readonly [check: string]: string } = {
  custom: "a refinement",
  overwrite: "a check that changes the value",
};

/** Finds what `schema` would lose as JSON Schema; empty where it says all. */
export function inexpressibleIn(schema: z.ZodType): Inexpressible[] {
  const found = new Map<string, Inexpressible>();
  const note = (path: string, what: string | undefined) => {
    if (what !== undefined) found.set(`${path} ${what}`, { path, what });
  };
  try {
    z.toJSONSchema(schema, {
      io: "input",
      unrepresentable: "any",
      override({ zodSchema, path }) {
        const { def } = zodSchema._zod;
        const at = valuePath(path);
        note(at, TYPES[def.type]);
        if ("coerce" in def && def.coerce === true) note(at, "a coercion");
        // What comes out of a pipe is another value than what went in.
        if (def.type === "pipe") note(at, "a transform");
        for (const check of def.checks ?? []) note(at, CHECKS[check._zod.def.check]);
      },
    });
  } catch (error) {
    note("", error instanceof Error ? error.message : String(error));
  }
  return [...found.values()];
}

/** From where zod says it is in the JSON Schema to where that is in a value. */
function valuePath(path: readonly (string | number)[]): string {
  const keys = path.flatMap((key, index) => {
    if (path[index - 1] === "properties") return [key];
    return key === "items" ? ["[]"] : [];
  });
  return joinPath("", keys).replaceAll('["[]"]', "[]");
}
