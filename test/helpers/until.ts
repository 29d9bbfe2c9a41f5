import { setTimeout as sleep } from "node:timers/promises";

/** Waits until `condition` holds, looking every 20 ms; fails with `what` after `withinMs` (default 10 s). */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  { withinMs = 10_000 }: { withinMs?: number } = {},
): Promise<void> {
  for (const giveUpAt = Date.now() + withinMs; !(await condition()); await sleep(20)) {
    if (Date.now() > giveUpAt) throw new Error(`expected within ${withinMs} ms: ${what}`);
  }
}
