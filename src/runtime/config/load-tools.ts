/** Imports the tools a configuration file names. */
import { createRequire } from "node:module";
import { isAbsolute, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { z } from "zod";
import { isTool } from "../../actors/define-tool.ts";
import type { Read } from "../../actors/read-by-schema.ts";
import { type Place, placeAt, problemAt, problemsOf, showValue } from "../../actors/schema-problems.ts";
import { strict } from "../../actors/strict.ts";
import type { Tool } from "../../actors/tool.ts";
import type { Problem } from "../../errors.ts";
import { importNewest } from "./import-newest.ts";

/** A tool as a file names it. */
export const referenceSchema = strict({ module: z.string().min(1), export: z.string().min(1).optional() });

/**
 * Gives the tools of the section `tools` by name. A module gives the export of the tool's name, or the one that `export`
 * names, or else its default export.
 */
export async function loadTools(
  section: { readonly [name: string]: unknown },
  dir: string,
  place: Place,
): Promise<{ tools: Map<string, Tool>; problems: Problem[] }> {
  const names = Object.keys(section);
  const loaded = await Promise.all(names.map((name) => loadTool(name, section[name], dir, placeAt(place, name))));
  const tools = loaded.flatMap(({ value }) => (value ? [[value.name, value] as const] : []));
  return { tools: new Map(tools), problems: loaded.flatMap(({ problems }) => problems) };
}

async function loadTool(name: string, raw: unknown, dir: string, place: Place): Promise<Read<Tool>> {
  const read: Read<Tool> = isTool(raw) ? { value: raw, problems: [] } : await importTool(name, raw, dir, place);
  if (!read.value || read.value.name === name) return read;
  return { problems: [problemAt(place, `a tool named "${name}"`, showValue(read.value.name))] };
}

async function importTool(name: string, raw: unknown, dir: string, place: Place): Promise<Read<Tool>> {
  const reference = referenceSchema.safeParse(raw);
  if (!reference.success) return { problems: problemsOf(reference.error.issues, raw, place) };
  const { module: specifier, export: wanted } = reference.data;
  try {
    const module = (await importNewest(locate(specifier, dir))) as { [name: string]: unknown };
    const found = wanted === undefined ? (module[name] ?? module.default) : module[wanted];
    if (isTool(found)) return { value: found, problems: [] };
    const expected = `a module that exports a tool made with defineTool as ${wanted ?? name}`;
    const got = `${specifier} with ${Object.keys(module).sort().join(", ") || "no exports"}`;
    return { problems: [problemAt(placeAt(place, "module"), expected, got)] };
  } catch (error) {
    return { problems: [problemAt(placeAt(place, "module"), "a module that can be imported", reasonOf(error))] };
  }
}

/** Node's message without its account of who asked. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return (error.message.split("\n", 1)[0] ?? "").replace(/ imported from .*$/, "");
}

function locate(specifier: string, dir: string): string {
  if (specifier.startsWith(".") || isAbsolute(specifier)) return pathToFileURL(resolve(dir, specifier)).href;
  // A package is one of the project the configuration belongs to. What it resolves from need not exist.
  return pathToFileURL(createRequire(join(dir, "troupe.yaml")).resolve(specifier)).href;
}
