/**
 * The workflow definitions this daemon can drive: the newest of each name for new runs, older ones for the runs that began
 * with them. They come from the configuration and, going before it, from what was put into the troupe.
 *
 * Invariants
 * F1  A definition that this daemon does not understand is none: it takes no run of it, an older version neither.
 * F2  What was there once is there for as long as this daemon: a run is gone on with by the definition it began with.
 * F3  Of a workflow that was deleted no run begins, of no version.
 */
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { StoredWorkflow } from "./stored-versions.ts";

export type Definitions = {
  /** The definition new runs of a workflow start with. */
  current(name: string): WorkflowDefinition | undefined;
  /** The definition a run was started with. */
  pinned(name: string, hash: string): WorkflowDefinition | undefined;
  /** A version by its hash, its number as in `#3`, or its label, of which the newest counts; without one, the current. */
  find(name: string, version: string | undefined): WorkflowDefinition | undefined;
  /** Why this daemon runs nothing of a workflow that is there, in words; with a hash, of that version. */
  trouble(name: string, hash?: string): string | undefined;
  /** Those new runs start with, by name. */
  all(): WorkflowDefinition[];
  /** Each of them as `name@hash`, for the beats. */
  offers(): string[];
  /** The others that runs may be bound to, each as `name@hash`; of many versions the newest. */
  older(): string[];
};

export type HeldDefinitions = Definitions & {
  /** The definitions of the configuration are these from now on. */
  configure(definitions: Iterable<WorkflowDefinition>): void;
  /** What is stored of a workflow has changed. */
  store(stored: StoredWorkflow): void;
  /** What is stored of a workflow. */
  stored(name: string): StoredWorkflow | undefined;
  /** Whether the configuration has a workflow. */
  isConfigured(name: string): boolean;
};

// Beats are short, and each version has to be read for one. Who has more of them goes on with all, and only says less.
const MOST_OLDER = 16;

/** Holds definitions by name and hash. */
export function holdDefinitions(definitions: Iterable<WorkflowDefinition>): HeldDefinitions {
  const configured = new Map<string, WorkflowDefinition>();
  const stored = new Map<string, StoredWorkflow>();
  const pinned = new Map<string, WorkflowDefinition>();
  let said: { offers: string[]; older: string[] } | undefined;
  configure(definitions);

  return {
    current,
    pinned: findPinned,
    find(name, version) {
      if (version === undefined) return current(name);
      const own = configured.get(name);
      const workflow = stored.get(name);
      // F3
      if (workflow && !workflow.current && !own) return undefined;
      const found = workflow?.find(version);
      if (found) return found.definition;
      return own?.version === version ? own : findPinned(name, version);
    },
    trouble(name, hash) {
      const workflow = stored.get(name);
      const version = hash === undefined ? workflow?.current : workflow?.find(hash);
      return version?.trouble;
    },
    all,
    offers: () => sayings().offers,
    older: () => sayings().older,
    configure,
    store(workflow) {
      stored.set(workflow.name, workflow);
      said = undefined;
    },
    stored: (name) => stored.get(name),
    isConfigured: (name) => configured.has(name),
  };

  function configure(all: Iterable<WorkflowDefinition>) {
    configured.clear();
    for (const definition of all) {
      configured.set(definition.name, definition);
      // F2
      pinned.set(offerOf(definition.name, definition.hash), definition);
    }
    said = undefined;
  }

  function current(name: string): WorkflowDefinition | undefined {
    const newest = stored.get(name)?.current;
    // F1
    return newest ? newest.definition : configured.get(name);
  }

  function findPinned(name: string, hash: string): WorkflowDefinition | undefined {
    return stored.get(name)?.pinned(hash) ?? pinned.get(offerOf(name, hash));
  }

  function all(): WorkflowDefinition[] {
    const names = new Set([...configured.keys(), ...stored.keys()]);
    return [...names].flatMap((name) => current(name) ?? []);
  }

  /** Said with every beat, changed seldom. */
  function sayings(): { offers: string[]; older: string[] } {
    if (said) return said;
    const offers = new Set(all().map(({ name, hash }) => offerOf(name, hash)));
    const older = new Set(pinned.keys());
    for (const { name, versions } of stored.values()) {
      for (const version of versions.slice(-MOST_OLDER)) if (version.definition) older.add(offerOf(name, version.hash));
    }
    said = { offers: [...offers], older: [...older].filter((offer) => !offers.has(offer)) };
    return said;
  }
}

/** How a beat names a definition. */
export function offerOf(name: string, hash: string): string {
  return `${name}@${hash}`;
}
