/**
 * Keeps a daemon on its files while somebody works on them.
 *
 * Invariants
 * R1  A file with mistakes changes nothing: they are all told, and the daemon goes on as it was.
 * R2  One reading at a time; what changes meanwhile is read afterwards.
 */
import { basename, dirname, isAbsolute, resolve } from "node:path";
import type { Logger } from "pino";
import { DefinitionError, describeProblem, UsageError } from "../../errors.ts";
import type { CheckedConfig } from "../config/load-config.ts";
import { OPTION_KEYS, type ResolvedOptions } from "../config/options.ts";
import { watchFiles } from "../config/watch-files.ts";
import { isDefinitionFile } from "../config/workflows-dir.ts";
import type { Daemon } from "./daemon.ts";
import type { DaemonFleet } from "./daemon-definitions.ts";
import { fleetOf } from "./serve.ts";

export type DevOptions = {
  daemon: Pick<Daemon, "reconfigure">;
  /** What it was started on. */
  loaded: LoadedConfig;
  /** Reads that anew. */
  load(): Promise<LoadedConfig>;
  logger: Logger;
};

/** A configuration and its options; without a file there is only the folder of definitions to watch. */
export type LoadedConfig = { config: CheckedConfig & { file?: string }; options: ResolvedOptions };

/** Reloads a daemon's definitions whenever one of its files changes, until the function it gives is called. */
export async function reloadOnChange({ daemon, loaded, load, logger }: DevOptions): Promise<() => void> {
  const { config, options } = loaded;
  let fleet = await fleetOf(config, options);
  let reading: Promise<void> | undefined;
  let again = false;
  const folders = foldersOf(loaded);
  const stop = watchFiles({
    folders,
    changed,
    failed: (error) => logger.warn({ err: error }, "a folder cannot be watched any more"),
  });
  logger.info({ folders: [...folders.keys()] }, "watching");
  return stop;

  // R2
  function changed() {
    if (reading) again = true;
    else {
      reading = reload().finally(() => {
        reading = undefined;
        if (again) changed();
        again = false;
      });
    }
  }

  async function reload() {
    try {
      const next = await load();
      const nextFleet = await fleetOf(next.config, next.options);
      daemon.reconfigure(nextFleet);
      logger.info(changesBetween(fleet, nextFleet), "reloaded");
      const later = OPTION_KEYS.filter((key) => !same(next.options[key], options[key]));
      if (later.length > 0) logger.warn({ options: later }, "options count from the next start on");
      fleet = nextFleet;
    } catch (error) {
      // R1
      if (error instanceof DefinitionError)
        for (const problem of error.problems) logger.error(describeProblem(problem));
      else logger.error(error instanceof UsageError ? error.message : { err: error });
      logger.warn("not reloaded: the last good definitions stay");
    }
  }
}

/** The files a configuration is made of: itself, its tools, and the folder of definitions. */
function foldersOf({ config: { file, dir, toolModules }, options: { workflows } }: LoadedConfig) {
  const names = new Map<string, Set<string>>();
  const own = toolModules
    .filter((module) => module.startsWith(".") || isAbsolute(module))
    .map((path) => resolve(dir, path));
  for (const path of file === undefined ? own : [file, ...own])
    names.set(dirname(path), (names.get(dirname(path)) ?? new Set()).add(basename(path)));
  const folders = new Map([...names].map(([folder, set]) => [folder, (name: string) => set.has(name)] as const));
  if (workflows !== undefined) {
    const also = folders.get(workflows);
    folders.set(workflows, (name) => isDefinitionFile(name) || also?.(name) === true);
  }
  return folders;
}

/** What is different between two fleets, by name. */
function changesBetween(before: DaemonFleet, after: DaemonFleet): object {
  const old = new Map(before.workflows.map((workflow) => [workflow.name, workflow.hash]));
  const young = new Map(after.workflows.map((workflow) => [workflow.name, workflow.hash]));
  const added = [...young.keys()].filter((name) => !old.has(name));
  const removed = [...old.keys()].filter((name) => !young.has(name));
  const changed = [...young].flatMap(([name, hash]) => (old.has(name) && old.get(name) !== hash ? [name] : []));
  return {
    workflows: [...young.keys()],
    ...(added.length > 0 && { added }),
    ...(changed.length > 0 && { changed }),
    ...(removed.length > 0 && { removed }),
  };
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
