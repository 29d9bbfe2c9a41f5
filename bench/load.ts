/** The client: publishes requests the way any outside program would, and times each until its result is in. */

import type { RunResult } from "../src/runtime/hosts/run-telling.ts";
import type { Bus } from "../src/runtime/nats/connection.ts";
import type { Subjects } from "../src/runtime/subjects.ts";
import { ANSWER, INPUT } from "./works.ts";

export type Load = {
  /** Makes one run and resolves with how long it took, in milliseconds. */
  run(): Promise<number>;
  /** Keeps `inFlight` runs going until `enough` resolves; then lets them finish. */
  keepUp(inFlight: number, enough: Promise<unknown>): Promise<void>;
  /** Runs that ended so far. */
  ended(): number;
  stop(): void;
};

type Pending = { startedAt: number; resolve: (ms: number) => void; reject: (error: Error) => void };

// Nothing here takes long: a result that is not in by now was lost, and so is the measurement.
const LOST_AFTER_MS = 30_000;
const LOOK_EVERY_MS = 1_000;

/** Opens the client of one workflow. */
export function openLoad(bus: Bus, subjects: Subjects, workflow: string): Load {
  const { nc } = bus;
  const inbox = bus.inbox();
  const subject = subjects.request(workflow);
  const pending = new Map<string, Pending>();
  let count = 0;
  let endedCount = 0;

  const results = nc.subscribe(`${inbox}.result.*`, {
    callback: (_error, message) => {
      const run = pending.get(keyOf(message.subject));
      if (!run) return;
      pending.delete(keyOf(message.subject));
      const { status, output, error } = message.json<RunResult>();
      if (status !== "completed" || output !== ANSWER) {
        return run.reject(new Error(`${workflow}: expected "${ANSWER}", got ${status} ${error?.message ?? output}`));
      }
      endedCount += 1;
      run.resolve(performance.now() - run.startedAt);
    },
  });
  // The stream's acknowledgement says that the request is stored; only a refusal is of interest, the result follows anyway.
  const stored = nc.subscribe(`${inbox}.stored.*`, {
    callback: (_error, message) => {
      const answer = message.json<{ error?: { description: string } }>();
      if (answer.error) reject(keyOf(message.subject), `the request was not stored: ${answer.error.description}`);
    },
  });
  const watch = setInterval(() => {
    const lost = performance.now() - LOST_AFTER_MS;
    for (const [key, { startedAt }] of pending)
      if (startedAt < lost) reject(key, `no result within ${LOST_AFTER_MS} ms`);
  }, LOOK_EVERY_MS);

  function reject(key: string, why: string): void {
    pending.get(key)?.reject(new Error(`${workflow}: ${why}`));
    pending.delete(key);
  }

  function run(): Promise<number> {
    count += 1;
    const key = String(count);
    return new Promise((resolve, reject) => {
      pending.set(key, { startedAt: performance.now(), resolve, reject });
      const request = JSON.stringify({ input: INPUT, replyTo: `${inbox}.result.${key}` });
      nc.publish(subject, request, { reply: `${inbox}.stored.${key}` });
    });
  }

  async function keepUp(inFlight: number, enough: Promise<unknown>): Promise<void> {
    let goOn = true;
    const stop = () => {
      goOn = false;
    };
    void enough.then(stop, stop);
    const one = async () => {
      while (goOn) await run();
    };
    await Promise.all(Array.from({ length: inFlight }, one));
  }

  return {
    run,
    keepUp,
    ended: () => endedCount,
    stop() {
      clearInterval(watch);
      results.unsubscribe();
      stored.unsubscribe();
    },
  };
}

function keyOf(subject: string): string {
  return subject.slice(subject.lastIndexOf(".") + 1);
}
