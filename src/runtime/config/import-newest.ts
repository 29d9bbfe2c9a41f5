/** Imports a module as its file is now: Node gives the first reading for as long as the process lives. */
import { statSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** When each file was last changed as it was imported first. */
const firstSeen = new Map<string, number>();

/** Imports the module at a `file:` URL, again where its file has changed. What it imports itself stays as it was. */
export async function importNewest(url: string): Promise<unknown> {
  const changed = changedMs(url);
  const first = firstSeen.get(url) ?? changed;
  firstSeen.set(url, first);
  return import(/* @vite-ignore */ changed === first ? url : `${url}?changed=${changed}`);
}

/** 0 where there is no file, which the import will say better. */
function changedMs(url: string): number {
  return statSync(fileURLToPath(url), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
