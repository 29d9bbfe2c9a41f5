/** Puts requests on the door as any client would, and waits for the ends of runs in the raw journals. */
import { setTimeout as sleep } from "node:timers/promises";
import type { RawJournals } from "./raw-journals.ts";
import { byRun } from "./raw-journals.ts";
import { until } from "./until.ts";

/** Ids for `count` runs. */
export function numberedIds(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `run-${i + 1}`);
}

/** Publishes one request for each id; the workflows take turns. */
export async function requestRuns(
  { nc }: RawJournals,
  runIds: readonly string[],
  workflows: readonly string[],
): Promise<void> {
  const js = nc.jetstream();
  await Promise.all(
    runIds.map((runId, i) =>
      js.publish(
        `troupe.requests.${workflows[i % workflows.length]}`,
        JSON.stringify({ input: { topic: runId }, runId }),
      ),
    ),
  );
}

/** Waits until so many runs are under way or over. */
export async function runsBegun(journals: RawJournals, count: number): Promise<void> {
  await until(`${count} runs`, async () => byRun(await journals.runs()).size >= count);
}

/** Waits until every run has ended; fails with those that have not. */
export async function runsEnded(journals: RawJournals, runIds: readonly string[], withinMs: number): Promise<void> {
  for (const giveUpAt = Date.now() + withinMs; ; await sleep(250)) {
    const runs = byRun(await journals.runs());
    const open = runIds.filter((runId) => {
      const last = runs.get(runId)?.at(-1)?.value.at(-1)?.type ?? "";
      return !/^run\.(completed|failed|cancelled)$/.test(last);
    });
    if (open.length === 0) return;
    if (Date.now() < giveUpAt) continue;
    const told = open.slice(0, 5).map((runId) => {
      const events = runs.get(runId)?.flatMap(({ value }) => value) ?? [];
      return `${runId}: ${events.map(({ type, at }) => `${at.slice(17)} ${type}`).join(", ") || "no journal"}`;
    });
    const door = await (await journals.nc.jetstreamManager()).consumers.info("TROUPE_REQUESTS", "door");
    const { num_pending, num_ack_pending, num_waiting, num_redelivered } = door;
    const queue = JSON.stringify({ num_pending, num_ack_pending, num_waiting, num_redelivered });
    throw new Error(
      `${open.length} runs did not end within ${withinMs} ms; the door has ${queue}:\n${told.join("\n")}`,
    );
  }
}
