/** Watches files that may be replaced, as editors do: their folders are watched, and what happens there is told once it is over. */
import { type FSWatcher, watch } from "node:fs";

export type WatchOptions = {
  /** Which names in each folder are meant. */
  folders: ReadonlyMap<string, (name: string) => boolean>;
  changed(): void;
  /** A folder cannot be watched any more. */
  failed(error: Error): void;
  /** How long nothing more must have happened, in milliseconds. @default 100 */
  quietMs?: number;
};

/** Starts watching; the function it gives ends that. @throws Error where a folder is not there. */
export function watchFiles({ folders, changed, failed, quietMs = 100 }: WatchOptions): () => void {
  let timer: NodeJS.Timeout | undefined;
  const watchers: FSWatcher[] = [];
  for (const [folder, isMeant] of folders) {
    const watcher = watch(folder, (_event, name) => {
      // Some systems do not say what it was.
      if (name !== null && !isMeant(name)) return;
      clearTimeout(timer);
      timer = setTimeout(changed, quietMs);
    });
    watcher.on("error", failed);
    watchers.push(watcher);
  }
  return () => {
    clearTimeout(timer);
    for (const watcher of watchers) watcher.close();
  };
}
