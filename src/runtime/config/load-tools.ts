/** Imports the tools a configuration file names. */
import { createRequire } from "node:module";
import { isAbsolute, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { z } from "zod";
import { isTool } from "../../actors/define-tool.ts";
import { type Place, placeAt, problemAt, problemsOf, showValue } from "../../actors/schema-problems.ts";
import { strict } from "../../actors/strict.ts";
import type { Tool } from "../../actors/tool.ts";
import type { Problem } from "../../errors.ts";

const referenceSchema = strict({ module: z.string().min(1), export: z.string().min(1).optional() });

/**
 * Gives the tools of the section `tools` by name. A module gives the export of the tool's name, or the one that `export`
 * names, or else its default export. What cannot be had is put into `problems`.
 */
export async function loadTools(
  section: { readonly [name: string]: unknown },
  dir: string,
  place: Place,
  problems: Problem[],
): Promise<Map<string, Tool>> {
  const loaded = await Promise.all(
    Object.entries(section).map(
      async ([name, raw]) => [name, await loadTool(name, raw, dir, placeAt(place, name), problems)] as const,
    ),
  );
  return new Map(loaded.filter((entry): entry is [string, Tool] => entry[1] !== undefined));
}

async function loadTool(
  name: string,
  raw: unknown,
  dir: string,
  place: Place,
  problems: Problem[],
): Promise<Tool | undefined> {
  const tool = isTool(raw) ? raw : await importTool(name, raw, dir, place, problems);
  if (tool === undefined || tool.name === name) return tool;
  problems.push(problemAt(place, `a tool named "${name}"`, showValue(tool.name)));
  return undefined;
}

async function importTool(
  name: string,
  raw: unknown,
  dir: string,
  place: Place,
  problems: Problem[],
): Promise<Tool | undefined> {
  const reference = referenceSchema.safeParse(raw);
  if (!reference.success) {
    problems.push(...problemsOf(reference.error.issues, raw, place));
    return undefined;
  }
  const { module: specifier, export: wanted } = reference.data;
  try {
    const module = (await import(/* @vite-ignore */ locate(specifier, dir))) as { [name: string]: unknown };
    const found = wanted === undefined ? (module[name] ?? module.default) : module[wanted];
    if (isTool(found)) return found;
    const expected = `a module that exports a tool made with defineTool as ${wanted ?? name}`;
    problems.push(
      problemAt(
        placeAt(place, "module"),
        expected,
        `${specifier} with ${Object.keys(module).join(", ") || "no exports"}`,
      ),
    );
  } catch (error) {
    const why = error instanceof Error ? (error.message.split("\n", 1)[0] ?? "") : String(error);
    problems.push(problemAt(placeAt(place, "module"), "a module that can be imported", why));
  }
  return undefined;
}

function locate(specifier: string, dir: string): string {
  if (specifier.startsWith(".") || isAbsolute(specifier)) return pathToFileURL(resolve(dir, specifier)).href;
  // A package is one of the project the configuration belongs to. What it resolves from need not exist.
  return pathToFileURL(createRequire(join(dir, "troupe.yaml")).resolve(specifier)).href;
}
