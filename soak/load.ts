/** The users of the soak: make requests, some of them twice, and change their minds. They go on until the system has heard them. */
import { setTimeout as sleep } from "node:timers/promises";
import type { NatsConnection } from "nats";
import { TroupeError } from "../src/errors.ts";
import type { Client } from "../src/runtime/edges/client.ts";
import { chanceOf } from "./chance.ts";
import type { Figures } from "./figures.ts";
import type { Ledger } from "./ledger.ts";
import { planRun } from "./run-plan.ts";
import type { TrackedRun } from "./tracked-run.ts";

export type LoadOptions = {
  nc: NatsConnection;
  client: Client;
  ledger: Ledger;
  figures: Figures;
  seed: number;
  /** Requests in a second, on average. */
  rate: number;
  /** No more requests while so many runs go on. */
  maxGoingOn: number;
  onProblem(problem: string, run: TrackedRun): void;
};

export type Load = {
  /** Requests made. */
  readonly count: number;
  /** Makes no new requests; what was begun goes on. */
  stop(): Promise<void>;
};

/** Where results are asked to be told. */
export const RESULTS = "soak.results";

const AGAIN_MS = 250;
const BURST = 15;
// So that a cancel that was there first has been heard everywhere.
const CANCEL_LEAD_MS = 1_500;
const UNKNOWN_TRIES = 20;

/** Starts making requests. */
export function startLoad(options: LoadOptions): Load {
  const { nc, client, ledger, figures, seed, rate, maxGoingOn, onProblem } = options;
  const js = nc.jetstream();
  let count = 0;
  let stopped = false;
  const loop = go();
  return {
    get count() {
      return count;
    },
    async stop() {
      stopped = true;
      await loop;
    },
  };

  async function go(): Promise<void> {
    for (let beat = 0; !stopped; beat += 1) {
      const chance = chanceOf(seed, "beat", beat);
      const wanted = chance.yes(0.03) ? BURST : 1;
      for (let i = 0; i < wanted && ledger.goingOn() < maxGoingOn; i += 1) {
        count += 1;
        void request(ledger.add(planRun(seed, count)));
      }
      // Bursts are part of the rate.
      await sleep(((1 + 0.03 * (BURST - 1)) / rate) * chance.int(200, 1_800));
    }
  }

  async function request(run: TrackedRun): Promise<void> {
    const { plan } = run;
    run.pending += 1;
    if (plan.cancel?.when === "before") await cancelUnasked(run);
    const isSent = send(run).then(() => {
      run.storedAt = Date.now();
    });
    for (const ms of plan.duplicatesMs) {
      figures.duplicates += 1;
      void later(run, ms, () => send(run));
    }
    const { cancel } = plan;
    if (cancel?.when === "after") void later(run, cancel.ms, () => isSent.then(() => cancelRun(run)));
    await isSent;
    run.pending -= 1;
  }

  async function later(run: TrackedRun, ms: number, act: () => Promise<void>): Promise<void> {
    run.pending += 1;
    await sleep(ms);
    await act();
    run.pending -= 1;
  }

  /** Again until it is stored: an attempt without an answer may have been, and then the next one is a duplicate. */
  async function send({ plan, notBefore }: TrackedRun): Promise<void> {
    const { runId, workflow, input, timeoutMs, byClient, replyTo } = plan;
    const envelope = {
      runId,
      ...(notBefore !== undefined && { notBefore }),
      ...(timeoutMs !== undefined && { timeoutMs }),
      ...(replyTo && { replyTo: `${RESULTS}.${runId}` }),
    };
    await insist(async () => {
      if (byClient) await client.start(workflow, input, envelope);
      else await js.publish(`troupe.requests.${workflow}`, JSON.stringify({ input, ...envelope }));
    });
  }

  /** Nobody knows the run yet, so the API would refuse; the broker takes it. */
  async function cancelUnasked(run: TrackedRun): Promise<void> {
    run.cancelAskedAt = Date.now();
    const signal = { v: 1, kind: "cancel", id: run.plan.runId, at: new Date().toISOString() };
    await insist(async () => void (await js.publish(`troupe.signals.${run.plan.runId}`, JSON.stringify(signal))));
    await sleep(CANCEL_LEAD_MS);
    run.cancelledAt = Date.now();
  }

  async function cancelRun(run: TrackedRun): Promise<void> {
    const { runId } = run.plan;
    run.cancelAskedAt = Date.now();
    let unknown = 0;
    await insist(async () => {
      try {
        await client.cancel(runId, { reason: "changed my mind" });
        run.cancelledAt = Date.now();
      } catch (error) {
        const code = error instanceof TroupeError ? error.code : undefined;
        if (code === "run_finished") return;
        if (code === "unknown_run") unknown += 1;
        if (unknown <= UNKNOWN_TRIES) throw error;
        onProblem(
          `${runId}: the API does not know it, ${Date.now() - (run.storedAt ?? 0)} ms after it was stored`,
          run,
        );
      }
    });
  }

  async function insist(act: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        return await act();
      } catch {
        await sleep(AGAIN_MS);
      }
    }
  }
}
