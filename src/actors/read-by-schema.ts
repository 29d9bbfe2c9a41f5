/**
 * Reads what somebody wrote in two stages, by schema and then by sense, and tells the problems of both at once: where the
 * schema complains, the rest is read as if the wrong parts had been left out.
 */
import type { z } from "zod";
import type { Problem } from "../errors.ts";
import { type Place, problemsOf } from "./schema-problems.ts";

/** The value, or everything that is wrong with it. */
export type Read<Value> = { value: Value; problems: [] } | { value?: undefined; problems: Problem[] };

/** Reads `raw`, which stands at `place`; `finish` makes the value of what the schema let through. */
export function readBySchema<Draft, Value>(
  schema: z.ZodType<Draft>,
  raw: unknown,
  place: Place,
  finish: (draft: Draft) => Read<Value>,
): Read<Value> {
  const parsed = schema.safeParse(raw);
  if (parsed.success) return finish(parsed.data);
  const problems = problemsOf(parsed.error.issues, raw, place);
  const rest = schema.safeParse(withoutWrong(raw, parsed.error.issues));
  const further = rest.success ? finish(rest.data).problems : [];
  // What was left out may be missed now; that has been told.
  const told = further.filter(({ path }) => !problems.some((problem) => problem.path.startsWith(path)));
  return { problems: [...problems, ...told] };
}

function withoutWrong(raw: unknown, issues: readonly z.core.$ZodIssue[]): unknown {
  const paths = issues.flatMap((issue) =>
    issue.code === "unrecognized_keys" ? issue.keys.map((key) => [...issue.path, key]) : [issue.path],
  );
  return paths.reduce<unknown>(without, raw);
}

/** A copy without what stands at `path`. Entries of lists stay, for the others are known by their number. */
function without(value: unknown, [key, ...rest]: readonly PropertyKey[]): unknown {
  if (key === undefined || typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    return rest.length === 0
      ? value
      : value.map((item: unknown, index) => (index === key ? without(item, rest) : item));
  }
  const { [key as string]: item, ...others } = value as Record<string, unknown>;
  if (rest.length === 0) return others;
  return { ...value, [key as string]: without(item, rest) };
}
