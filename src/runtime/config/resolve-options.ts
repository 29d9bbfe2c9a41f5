/** Settles every option: a flag goes before a variable, a variable before the file, the file before the default. */
import { joinPath, type Place, problemAt, showValue } from "../../actors/schema-problems.ts";
import { DefinitionError, type Problem } from "../../errors.ts";
import { nearest } from "./did-you-mean.ts";
import {
  flagOf,
  isOptionKey,
  OPTION_KEYS,
  type OptionKey,
  optionOf,
  type ResolvedOptions,
  variableOf,
} from "./options.ts";

/** Where options come from; each part may be missing. */
export type OptionSources = {
  /** By key, not by flag: see `flagsOf`. */
  flags?: { readonly [key: string]: unknown };
  env?: { readonly [variable: string]: string | undefined };
  /** The section `daemon` of the configuration. */
  file?: { readonly [key: string]: unknown };
  /** What the file is called in errors. */
  fileName?: string;
  /** Where relative paths in the file start. @default cwd */
  fileDir?: string;
  /** Where other relative paths start. @default the working directory */
  cwd?: string;
};

/** No option, and yet read: see `crash-points.ts`. */
const CRASH_AT = "TROUPE_CRASH_AT";

/** The options, and what is odd without being wrong: variables nobody reads. */
export type OptionResolution = { options: ResolvedOptions; warnings: string[] };

/**
 * Resolves all options.
 *
 * @throws DefinitionError with every value that does not fit and every unknown key.
 */
export function resolveOptions(sources: OptionSources): OptionResolution {
  const { flags = {}, env = {}, file = {}, cwd = process.cwd() } = sources;
  const problems = [...unknownKeys(file, sources.fileName, "daemon"), ...unknownKeys(flags, undefined, "")];
  const fileDir = sources.fileDir ?? cwd;
  const settled = OPTION_KEYS.map((key): [OptionKey, unknown] => {
    const written = firstWritten(key, { flags, env, file, cwd, fileDir, fileName: sources.fileName });
    if (!written) return [key, defaultOf(key, cwd)];
    const value = optionOf(key).kind.read(written.value, written.dir);
    if (value === undefined) problems.push(misfit(key, written.value, written));
    return [key, value];
  });
  // Each value was read by the kind of its own key.
  const options = Object.fromEntries(settled) as ResolvedOptions;
  if (problems.length === 0) problems.push(...contradictions(options));
  if (problems.length > 0) throw new DefinitionError(problems);
  return { options, warnings: unknownVariables(env) };
}

/** Everything wrong with the section `daemon` of a file that is called `fileName` and stands in `dir`. */
export function problemsOfFile(file: { readonly [key: string]: unknown }, fileName: string, dir: string): Problem[] {
  const values = Object.entries(file).flatMap(([key, value]) => {
    if (!isOptionKey(key) || value === null || optionOf(key).kind.read(value, dir) !== undefined) return [];
    return [misfit(key, value, { file: fileName, path: joinPath("daemon", [key]) })];
  });
  return [...unknownKeys(file, fileName, "daemon"), ...values];
}

function misfit(key: OptionKey, value: unknown, place: Place): Problem {
  const { kind, secret } = optionOf(key);
  return problemAt(place, kind.expected, secret ? "a value that does not fit" : showValue(value));
}

/** What was written for an option in the strongest place, and where that is. */
type Written = { value: unknown; dir: string; path: string; file?: string };

function firstWritten(
  key: OptionKey,
  {
    flags,
    env,
    file,
    cwd,
    fileDir,
    fileName,
  }: Required<Omit<OptionSources, "fileName">> & { fileName: string | undefined },
): Written | undefined {
  if (flags[key] !== undefined) return { value: flags[key], dir: cwd, path: flagOf(key) };
  const { alsoEnv } = optionOf(key);
  for (const variable of alsoEnv ? [variableOf(key), alsoEnv] : [variableOf(key)]) {
    // An empty variable is how shells and compose files say "not set".
    if (env[variable]) return { value: env[variable], dir: cwd, path: variable };
  }
  if (file[key] === undefined || file[key] === null) return undefined;
  return {
    value: file[key],
    dir: fileDir,
    path: joinPath("daemon", [key]),
    ...(fileName === undefined ? {} : { file: fileName }),
  };
}

function defaultOf(key: OptionKey, cwd: string): unknown {
  const fallback = optionOf(key).default;
  return fallback === undefined ? undefined : optionOf(key).kind.read(fallback, cwd);
}

function unknownKeys(written: { readonly [key: string]: unknown }, file: string | undefined, base: string): Problem[] {
  const unknown = Object.keys(written).filter((key) => !isOptionKey(key));
  return unknown.map((key) => {
    const meant = nearest(key, OPTION_KEYS);
    const expected = `the key of an option${meant ? ` (did you mean ${meant}?)` : ""}`;
    const place = { path: joinPath(base, [key]), ...(file === undefined ? {} : { file }) };
    return problemAt(place, expected, showValue(key));
  });
}

/** Variables may belong to another version or program, so they are no error; silence would hide a slip, though. */
function unknownVariables(env: { readonly [variable: string]: string | undefined }): string[] {
  const known = OPTION_KEYS.map(variableOf);
  const unknown = Object.keys(env).filter((name) => name.startsWith("TROUPE_") && !known.includes(name));
  return unknown.map((name) => {
    if (name === CRASH_AT && env[name])
      return `${name}: this process will kill itself at ${env[name]}, as tests want it`;
    const meant = nearest(name, known);
    return `${name}: expected the variable of an option${meant ? ` (did you mean ${meant}?)` : ""}, so it is ignored`;
  });
}

/** Values that fit by themselves and not together. */
function contradictions(options: ResolvedOptions): Problem[] {
  const problems: Problem[] = [];
  const atLeastTwice = (longer: "suspectAfterMs" | "taskSilenceMs", shorter: "beatMs" | "workingEveryMs") => {
    if (options[longer] >= 2 * options[shorter]) return;
    const expected = `at least twice ${shorter} (${options[shorter]}), so that one lost message is not taken for a death`;
    problems.push(problemAt({ path: longer }, expected, showValue(options[longer])));
  };
  const goTogether = (one: "user" | "tlsCert", other: "password" | "tlsKey") => {
    for (const [has, lacks] of [
      [one, other],
      [other, one],
    ] as const) {
      if (options[has] !== undefined && options[lacks] === undefined) {
        problems.push(problemAt({ path: lacks }, `a value, because ${has} has one`, "nothing"));
      }
    }
  };
  atLeastTwice("suspectAfterMs", "beatMs");
  atLeastTwice("taskSilenceMs", "workingEveryMs");
  goTogether("user", "password");
  goTogether("tlsCert", "tlsKey");
  return problems;
}
