import { setTimeout as sleep } from "node:timers/promises";

type Falsy = false | 0 | "" | null | undefined;

/**
 * Waits until `look` finds something (anything but false, 0, "", null, undefined) and gives that, looking every 20 ms.
 * Fails with `what` after `withinMs` (default 10 s).
 */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  { withinMs = 10_000 }: { withinMs?: number } = {},
): Promise<Exclude<T, Falsy>> {
  for (const giveUpAt = Date.now() + withinMs; ; await sleep(20)) {
    const found = await look();
    if (found) return found as Exclude<T, Falsy>;
    if (Date.now() > giveUpAt) throw new Error(`expected within ${withinMs} ms: ${what}`);
  }
}
