/** The workflow definitions this daemon can drive: the newest of each name for new runs, any known hash for old ones. */
import type { WorkflowDefinition } from "../../workflows/definition.ts";

export type Definitions = {
  /** The definition new runs of a workflow start with. */
  current(name: string): WorkflowDefinition | undefined;
  /** The definition a run was started with. */
  pinned(name: string, hash: string): WorkflowDefinition | undefined;
  all(): WorkflowDefinition[];
  /** Each as `name@hash`, for the beats. */
  offers(): string[];
};

/** Holds definitions by name and hash. */
export function holdDefinitions(definitions: Iterable<WorkflowDefinition>): Definitions {
  const current = new Map<string, WorkflowDefinition>();
  const pinned = new Map<string, WorkflowDefinition>();
  for (const definition of definitions) {
    current.set(definition.name, definition);
    pinned.set(offerOf(definition.name, definition.hash), definition);
  }
  const offers = [...pinned.keys()];
  return {
    current: (name) => current.get(name),
    pinned: (name, hash) => pinned.get(offerOf(name, hash)),
    all: () => [...current.values()],
    offers: () => offers,
  };
}

/** How a beat names a definition. */
export function offerOf(name: string, hash: string): string {
  return `${name}@${hash}`;
}
