/**
 * What a workflow was written as. A definition is what that came to; what goes into files, is stored and is drawn is what was
 * written, so that whoever reads it again comes to the same definition, however much of it there may be by then.
 */
import type { WorkflowDefinition } from "./definition.ts";

/** Known to every copy of this module: a configuration may be made with another one than the daemon's. */
const WRITTEN = Symbol.for("troupe.written");

/** A workflow as a file has it, without its name; in TypeScript it may hold zod schemas and functions. */
export type WrittenWorkflow = { readonly [key: string]: unknown };

/** Keeps what a definition was written as. It is no part of the data: not copied, compared or hashed. */
export function keepWritten(definition: WorkflowDefinition, raw: object): void {
  const { name: _name, ...written } = raw as WrittenWorkflow;
  Object.defineProperty(definition, WRITTEN, { value: Object.freeze(written) });
}

/** What a definition was written as; undefined of a copy. */
export function writtenOf(definition: WorkflowDefinition): WrittenWorkflow | undefined {
  return (definition as { readonly [WRITTEN]?: WrittenWorkflow })[WRITTEN];
}

/** Keys whose values are data, schemas or names of steps: nothing in them names an agent. */
const DATA = new Set(["input", "output", "schema", "payload", "switch"]);

/** The agents a workflow names, in the order they come; `written` is as in a file. */
export function agentsNamedIn(written: WrittenWorkflow): string[] {
  const found = new Set<string>();
  const add = (name: unknown) => void (typeof name === "string" && found.add(name));
  add(written.entry);
  if (Array.isArray(written.agents)) for (const agent of written.agents) add(agent);
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) for (const item of value) walk(item);
    else if (typeof value === "object" && value !== null) {
      for (const [key, item] of Object.entries(value)) {
        if (key === "agent") add(item);
        else if (!DATA.has(key)) walk(item);
      }
    }
  };
  walk({ ...written, agents: undefined });
  return [...found];
}
