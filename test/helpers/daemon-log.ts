/** What a daemon said: its log lines, and its readiness page. */
import type { DaemonHome } from "./daemon-process.ts";

export type LogLine = { level: number; msg: string; [field: string]: unknown };

/** The lines a daemon has logged so far, over all its lives. */
export async function linesOf(daemon: DaemonHome): Promise<LogLine[]> {
  return (await daemon.log()).split("\n").flatMap((line) => {
    try {
      return [JSON.parse(line) as LogLine];
    } catch {
      // Not from the logger, or not yet written whole.
      return [];
    }
  });
}

/** How often a daemon has said something. */
export async function timesSaid(daemon: DaemonHome, words: RegExp): Promise<number> {
  return (await linesOf(daemon)).filter(({ msg }) => words.test(msg)).length;
}

/** Why a daemon is not ready; empty when it is. */
export async function reasonsOf(daemon: DaemonHome): Promise<string[]> {
  const ready = (await linesOf(daemon)).findLast(({ msg }) => msg === "ready");
  const answer = await fetch(`${ready?.http}/readyz`);
  return ((await answer.json()) as { reasons: string[] }).reasons;
}
