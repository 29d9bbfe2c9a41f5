/** Puts what zod finds wrong into the one error style: where, expected, got. */
import type { z } from "zod";
import type { Problem } from "../errors.ts";

/** Where a value stands: its file and the path that leads to it. */
export type Place = { file?: string; path: string };

/** Rules write their messages as `expected …`; the prefix tells them from zod's own. */
const OWN_WORDS = /^expected /;
/** Long enough to recognise a value by, short enough for one line. */
const SHOWN_LENGTH = 80;
const PLAIN_KEY = /^[A-Za-z_$][\w$-]*$/;

/** Appends keys to a path: `steps`, `2`, `after` gives `steps[2].after`. */
export function joinPath(base: string, keys: readonly PropertyKey[]): string {
  return keys.reduce<string>((path, key) => {
    if (typeof key === "number") return `${path}[${key}]`;
    const name = String(key);
    if (!PLAIN_KEY.test(name)) return `${path}[${JSON.stringify(name)}]`;
    return path === "" ? name : `${path}.${name}`;
  }, base);
}

/** Shows a value in an error message: JSON where there is some, one line, cut when long. */
export function showValue(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "function") return "a function";
  const text = toText(value);
  return text.length > SHOWN_LENGTH ? `${text.slice(0, SHOWN_LENGTH)}…` : text;
}

function toText(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}

/** The place below `place` that `keys` lead to. */
export function placeAt({ file, path }: Place, ...keys: PropertyKey[]): Place {
  return { ...(file === undefined ? {} : { file }), path: joinPath(path, keys) };
}

/** A problem at a place. */
export function problemAt(place: Place, expected: string, got: string): Problem {
  return { ...placeAt(place), expected, got };
}

/** All problems behind a zod error about `value`, which stands at `place`. */
export function problemsOf(issues: readonly z.core.$ZodIssue[], value: unknown, place: Place): Problem[] {
  return issues.flatMap((issue) => describe(issue, value, place));
}

function describe(issue: z.core.$ZodIssue, root: unknown, place: Place): Problem[] {
  const value = valueAt(root, issue.path);
  const here = { ...place, path: joinPath(place.path, issue.path) };
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => {
      const path = joinPath(here.path, [key]);
      const words = OWN_WORDS.test(issue.message) ? issue.message.replace(OWN_WORDS, "") : "no such key";
      return problemAt({ ...here, path }, words, showValue(valueAt(value, [key])));
    });
  }
  const closest = issue.code === "invalid_union" ? closestBranch(issue.errors) : undefined;
  if (closest && !OWN_WORDS.test(issue.message)) return problemsOf(closest, value, here);
  return [problemAt(here, expectation(issue), showValue(value))];
}

/** The branch its writer meant, as far as one can tell: it got past the top of the value and its literals fit. */
function closestBranch(branches: readonly (readonly z.core.$ZodIssue[])[]) {
  const deep = branches.filter((issues) => issues.length > 0 && issues.every((issue) => issue.path.length > 0));
  return deep.find((issues) => issues.every((issue) => issue.code !== "invalid_value")) ?? deep[0];
}

function expectation(issue: z.core.$ZodIssue): string {
  if (OWN_WORDS.test(issue.message)) return issue.message.replace(OWN_WORDS, "");
  switch (issue.code) {
    case "invalid_type":
      return withArticle(issue.expected);
    case "invalid_value":
      return oneOf(issue.values.map((value) => toText(value)));
    case "too_small":
      return bound(issue.origin, issue.inclusive ? "at least" : "more than", Number(issue.minimum));
    case "too_big":
      return bound(issue.origin, issue.inclusive ? "at most" : "less than", Number(issue.maximum));
    case "invalid_format":
      return issue.format === "regex" && issue.pattern
        ? `text that matches ${issue.pattern}`
        : `a valid ${issue.format}`;
    case "not_multiple_of":
      return `a multiple of ${issue.divisor}`;
    case "invalid_union":
      return unionOf(issue.errors);
    case "unrecognized_keys":
    case "invalid_key":
    case "invalid_element":
    case "custom":
      return issue.message;
    default:
      // Only a newer zod gets here; its own words are better than none.
      return (issue satisfies never as { message: string }).message;
  }
}

function bound(origin: string, comparison: string, limit: number): string {
  switch (origin) {
    case "string":
      return limit === 1 && comparison === "at least" ? "some text" : `${comparison} ${limit} characters`;
    case "array":
    case "set":
      return `${comparison} ${limit} ${limit === 1 ? "entry" : "entries"}`;
    case "object":
    case "record":
      return `${comparison} ${limit} ${limit === 1 ? "key" : "keys"}`;
    default:
      return `a number of ${comparison} ${limit}`;
  }
}

function unionOf(branches: readonly (readonly z.core.$ZodIssue[])[]): string {
  const words = branches.flatMap((issues) => issues.slice(0, 1).map(expectation));
  return [...new Set(words)].join(" or ") || "another value";
}

/** Renders a choice: `"a"`, or `one of "a", "b"`. */
export function oneOf(words: readonly string[]): string {
  return words.length === 1 ? `${words[0]}` : `one of ${words.join(", ")}`;
}

function withArticle(type: string): string {
  switch (type) {
    case "string":
      return "text";
    case "int":
      return "a whole number";
    case "boolean":
      return "true or false";
    case "array":
      return "a list";
    case "never":
      return "nothing";
    case "nonoptional":
      return "a value";
    case "null":
      return "null";
    case "record":
    case "object":
      return "an object";
    default:
      return /^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`;
  }
}

function valueAt(root: unknown, keys: readonly PropertyKey[]): unknown {
  return keys.reduce<unknown>(
    (value, key) =>
      typeof value === "object" && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    root,
  );
}
