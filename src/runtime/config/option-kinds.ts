/** The kinds of values options have, and how each is read from a file, a flag or the environment. */
import { isAbsolute, resolve } from "node:path";
import { LONGEST_TIMER_MS } from "../../actors/durations.ts";

/** How one option is read. */
export type OptionKind<Value> = {
  /** What a fitting value is, as in "expected …". */
  readonly expected: string;
  /** What the documentation puts into the column for the type. */
  readonly shown: string;
  /** What a flag takes, as in `--nats <urls>`; absent for switches. */
  readonly placeholder?: string;
  /** The value behind what was written, or undefined when it does not fit. `dir` is where relative paths start. */
  read(written: unknown, dir: string): Value | undefined;
};

/** Some text. */
export function text(placeholder = "text"): OptionKind<string> {
  return {
    expected: "text",
    shown: "text",
    placeholder,
    read: (written) => (typeof written === "string" && written !== "" ? written : undefined),
  };
}

/** A path; a relative one starts at the file it is written in, or at the working directory. */
export const path: OptionKind<string> = {
  expected: "a path",
  shown: "path",
  placeholder: "path",
  read: (written, dir) => {
    if (typeof written !== "string" || written === "") return undefined;
    return isAbsolute(written) ? written : resolve(dir, written);
  },
};

/** A program: a path when it has a separator, else a name to be found on PATH. */
export const program: OptionKind<string> = {
  expected: "a path or the name of a program",
  shown: "path",
  placeholder: "path",
  read: (written, dir) =>
    typeof written === "string" && !/[\\/]/.test(written) ? written || undefined : path.read(written, dir),
};

/** A list of words: with commas between them in flags and variables, a list or one word in a file. */
export function list(
  placeholder: string,
  fits: { test(word: string): boolean; expected: string },
): OptionKind<readonly string[]> {
  return {
    expected: `a list of ${fits.expected}`,
    shown: "list",
    placeholder,
    read: (written) => {
      const parts: unknown[] = Array.isArray(written)
        ? written
        : typeof written === "string"
          ? written.split(",")
          : [undefined];
      const words = parts.map((part) => (typeof part === "string" ? part.trim() : undefined));
      return words.every((word) => word !== undefined && fits.test(word)) ? (words as string[]) : undefined;
    },
  };
}

/** A whole number. */
export function integer(least: number, most: number): OptionKind<number> {
  return {
    expected: `a whole number from ${least} to ${most}`,
    shown: "number",
    placeholder: "n",
    read: (written) => {
      const value = typeof written === "string" && /^\d+$/.test(written) ? Number(written) : written;
      return Number.isInteger(value) && (value as number) >= least && (value as number) <= most
        ? (value as number)
        : undefined;
    },
  };
}

const UNITS: { readonly [unit: string]: number } = { "": 1, ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A duration in milliseconds: `2500`, or with a unit `2500ms`, `2.5s`, `1m`, `1h`, `7d`. */
export function duration({ least = 1, most = LONGEST_TIMER_MS } = {}): OptionKind<number> {
  const examples = "2500, 2.5s, 1m, 1h or 7d";
  return quantity({ name: "duration", examples, unit: "ms", least, most, parse: parseDuration });
}

type Quantity = {
  name: string;
  examples: string;
  unit: string;
  least: number;
  most: number;
  parse: (written: string) => number | undefined;
};

/** A whole number of some unit, which may be written with a larger one. */
function quantity({ name, examples, unit, least, most, parse }: Quantity): OptionKind<number> {
  return {
    expected: `a ${name} such as ${examples}, from ${least} to ${most} ${unit}`,
    shown: name,
    placeholder: name,
    read: (written) => {
      const value = typeof written === "string" ? parse(written) : written;
      return Number.isInteger(value) && (value as number) >= least && (value as number) <= most
        ? (value as number)
        : undefined;
    },
  };
}

function parseDuration(written: string): number | undefined {
  const [, amount, unit = ""] = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?$/.exec(written.trim()) ?? [];
  return amount === undefined ? undefined : Math.round(Number(amount) * (UNITS[unit] ?? 1));
}

const KIB = 1_024;
const SIZES: { readonly [unit: string]: number } = {
  "": 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: KIB,
  mib: KIB ** 2,
  gib: KIB ** 3,
  tib: KIB ** 4,
};

/** A size in bytes: `1048576`, or with a unit `512MiB`, `1.5GiB`, `10GB`. */
export function size({ least = 1, most = Number.MAX_SAFE_INTEGER } = {}): OptionKind<number> {
  return quantity({ name: "size", examples: "1048576, 512MiB or 10GB", unit: "bytes", least, most, parse: parseSize });
}

function parseSize(written: string): number | undefined {
  const [, amount, unit = ""] = /^(\d+(?:\.\d+)?)\s*([kmgt]i?b)?$/i.exec(written.trim()) ?? [];
  return amount === undefined ? undefined : Math.round(Number(amount) * (SIZES[unit.toLowerCase()] ?? 1));
}

/** Yes or no. */
export const toggle: OptionKind<boolean> = {
  expected: "true or false",
  shown: "true, false",
  read: (written) => {
    if (written === true || written === "true" || written === "1") return true;
    return written === false || written === "false" || written === "0" ? false : undefined;
  },
};

/** One of some words. */
export function choice<const Word extends string>(...words: Word[]): OptionKind<Word> {
  return {
    expected: `one of ${words.join(", ")}`,
    shown: words.join(", "),
    placeholder: "word",
    read: (written) => words.find((word) => word === written),
  };
}

/** Words that match a pattern. */
export function matching(pattern: RegExp, expected: string, placeholder: string): OptionKind<string> {
  return {
    expected,
    shown: "text",
    placeholder,
    read: (written) => (typeof written === "string" && pattern.test(written) ? written : undefined),
  };
}
