/** Reads a configuration file into plain data, and remembers on which line of it what stands. */
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { pathToFileURL } from "node:url";
import { type Document, isMap, isScalar, isSeq, LineCounter, type ParsedNode, parseDocument } from "yaml";
import { joinPath } from "../../actors/schema-problems.ts";
import { DefinitionError, type Problem } from "../../errors.ts";
import { importNewest } from "./import-newest.ts";

/** A file's content. `locate` gives a problem's file its line, as in `troupe.yaml:12`. */
export type RawConfig = { data: unknown; locate(problem: Problem): Problem };

/**
 * Reads YAML, JSON, TypeScript or JavaScript; the last two export their configuration by default.
 *
 * @param shown what the file is called in errors
 * @param optional whether a module may do without a default export. @default false
 * @throws DefinitionError when the file cannot be read as what it is.
 */
export async function readConfig(
  file: string,
  shown: string,
  { optional = false }: { optional?: boolean } = {},
): Promise<RawConfig> {
  switch (extname(file)) {
    case ".yaml":
    case ".yml":
      return readYaml(await readFile(file, "utf8"), shown);
    case ".json":
      return readJson(await readFile(file, "utf8"), shown);
    case ".ts":
    case ".mts":
    case ".js":
    case ".mjs":
      return readModule(file, shown, optional);
    default:
      throw wrong(
        shown,
        "a file that ends in .yaml, .yml, .json, .ts, .mts, .js or .mjs",
        JSON.stringify(extname(file)),
      );
  }
}

function readYaml(text: string, shown: string): RawConfig {
  const lines = new LineCounter();
  // `merge`: agents share settings by `<<: *common`.
  const document = parseDocument(text, { lineCounter: lines, merge: true, prettyErrors: false });
  if (document.errors.length > 0) {
    const problems = document.errors.map(({ message, pos }) => {
      const { line, col } = lines.linePos(pos[0]);
      return { file: `${shown}:${line}`, path: `column ${col}`, expected: "valid YAML", got: message };
    });
    throw new DefinitionError(problems);
  }
  try {
    return { data: document.toJS() as unknown, locate: locator(document, lines, shown) };
  } catch (error) {
    throw wrong(shown, "valid YAML", firstLine(error));
  }
}

function readJson(text: string, shown: string): RawConfig {
  try {
    const data: unknown = JSON.parse(text);
    const lines = new LineCounter();
    // JSON is YAML, whose reader knows the lines.
    return { data, locate: locator(parseDocument(text, { lineCounter: lines, schema: "json" }), lines, shown) };
  } catch (error) {
    throw wrong(shown, "valid JSON", firstLine(error));
  }
}

async function readModule(file: string, shown: string, optional: boolean): Promise<RawConfig> {
  const module = await importConfig(file, shown);
  if (module.default === undefined && !optional)
    throw wrong(shown, "a default export, as in `export default defineConfig({…})`", "none");
  return { data: module.default, locate: (problem) => problem };
}

async function importConfig(file: string, shown: string): Promise<{ default?: unknown }> {
  try {
    return (await importNewest(pathToFileURL(file).href)) as { default?: unknown };
  } catch (error) {
    // What `define…` found wrong while the module ran.
    if (isDefinitionError(error))
      throw new DefinitionError(error.problems.map((problem) => ({ file: shown, ...problem })));
    throw wrong(shown, "a module that can be imported", firstLine(error));
  }
}

/** The module may have thrown the class of another copy of Troupe. */
function isDefinitionError(error: unknown): error is DefinitionError {
  return error instanceof Error && "problems" in error && Array.isArray(error.problems);
}

function locator(document: Document.Parsed, lines: LineCounter, shown: string): RawConfig["locate"] {
  let offsets: Map<string, number> | undefined;
  return (problem) => {
    if (problem.file !== shown) return problem;
    offsets ??= offsetsOf(document.contents);
    const offset = nearestOffset(problem.path, offsets);
    return offset === undefined ? problem : { ...problem, file: `${shown}:${lines.linePos(offset).line}` };
  };
}

/** Where in the text each path begins. */
function offsetsOf(root: ParsedNode | null): Map<string, number> {
  const offsets = new Map<string, number>();
  const walk = (node: unknown, path: string): void => {
    if (isMap(node)) {
      for (const { key, value } of node.items) {
        if (!isScalar(key)) continue;
        const below = joinPath(path, [String(key.value)]);
        if (key.range) offsets.set(below, key.range[0]);
        walk(value, below);
      }
    } else if (isSeq(node)) {
      node.items.forEach((item, index) => {
        const below = joinPath(path, [index]);
        const { range } = item as { range?: [number, number, number] };
        if (range) offsets.set(below, range[0]);
        walk(item, below);
      });
    }
  };
  walk(root, "");
  return offsets;
}

/** What is missing stands nowhere; then the line of what it is missing from has to do. */
function nearestOffset(path: string, offsets: ReadonlyMap<string, number>): number | undefined {
  for (let rest = path; rest !== ""; rest = rest.replace(/(^|\.)[^.[\]]+$|\[[^\]]*\]$/, "")) {
    const offset = offsets.get(rest);
    if (offset !== undefined) return offset;
    if (!/[^.[\]]+$|\]$/.test(rest)) return undefined;
  }
  return undefined;
}

function wrong(file: string, expected: string, got: string): DefinitionError {
  return new DefinitionError([{ file, path: "the file", expected, got }]);
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n", 1)[0] ?? "";
}
