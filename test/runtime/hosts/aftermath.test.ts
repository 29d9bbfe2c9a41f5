import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { settleAftermath } from "../../../src/runtime/hosts/aftermath.ts";
import { holdDefinitions } from "../../../src/runtime/hosts/definitions.ts";
import { encodeEntry } from "../../../src/runtime/hosts/encode-entry.ts";
import { followExports } from "../../../src/runtime/hosts/exports.ts";
import { openResults } from "../../../src/runtime/hosts/results.ts";
import { openRunIndex } from "../../../src/runtime/hosts/run-index.ts";
import { connectBus } from "../../../src/runtime/nats/connection.ts";
import { openJournals } from "../../../src/runtime/nats/journal.ts";
import { noTracing } from "../../../src/tracing/no-tracing.ts";
import type { RunEvent } from "../../../src/workflows/run-events.ts";
import { type Cable, startCable } from "../../helpers/cable.ts";
import { eventsOf, finishedRun, OWNER } from "../../helpers/run-events.ts";
import { type RunBench, startRunBench } from "../../helpers/run-host-bench.ts";
import { until } from "../../helpers/until.ts";

const logger = pino({ level: "silent" });
let bench: RunBench;
let cable: Cable;

beforeEach(async () => {
  bench = await startRunBench();
  cable = await startCable(bench.nats.port);
});
afterEach(async () => {
  await cable[Symbol.asyncDispose]();
  await bench[Symbol.asyncDispose]();
});

/** A daemon that knows of a run which ended under one that is gone, and whose own connection is a cable. */
async function survivor() {
  const { subjects } = bench;
  const make = eventsOf(undefined, Date.now());
  let seq = 0;
  for (const events of finishedRun(make, "text", { replyTo: "results" })) {
    const { body } = encodeEntry(events);
    seq = await bench.journals.append(subjects.run(make.runId), body, { expected: seq, id: events[0]?.id as string });
  }
  const index = openRunIndex({ file: ":memory:", bus: bench.bus, subjects, logger });
  await until("the run to be known", () => index.get(make.runId)?.status === "completed");
  const writer = { host: "alive", incarnation: "alive-1" };
  const exports = followExports({ bus: bench.bus, subjects, logger, writer, own: () => 0 });
  await exports.ready();
  const bus = await connectBus({ servers: cable.url, name: "alive", inboxPrefix: "_INBOX_alive" });
  const results = openResults(bus);
  const told: string[] = [];
  bench.bus.nc.subscribe("results", { callback: (_, message) => told.push(message.json<{ runId: string }>().runId) });
  await bench.bus.nc.flush();
  const stopping = new AbortController();
  const journals = openJournals<RunEvent[]>(bus, subjects.streams.runs);
  const definitions = holdDefinitions([]);
  const common = { bus, subjects, journals, index, tracing: noTracing, definitions, exports, results, logger };
  return {
    runId: make.runId,
    told,
    bus,
    stopping,
    exports,
    settle: () =>
      settleAftermath({ ...common, unnoticedMs: 60_000, stopping: stopping.signal }, OWNER.host, OWNER.incarnation),
    async [Symbol.asyncDispose]() {
      stopping.abort();
      results.stop();
      await exports.stop();
      await index.close();
      await bus.close();
    },
  };
}

test("what a gone daemon left is said once the broker is back, and the host counts as settled", async () => {
  await using daemon = await survivor();
  cable.refuse();
  await until("the loss to be noticed", () => !daemon.bus.connected());
  const settling = daemon.settle();
  cable.accept();
  await settling;
  await until("the mark", () => daemon.exports.mark(OWNER.host));
  await until("the result", () => daemon.told.includes(daemon.runId));
});

test("a daemon that stops while the broker is away leaves it to others", async () => {
  await using daemon = await survivor();
  cable.refuse();
  await until("the loss to be noticed", () => !daemon.bus.connected());
  const settling = daemon.settle();
  daemon.stopping.abort();
  await expect(settling).rejects.toThrow();
  cable.accept();
  await until("the connection to be back", () => daemon.bus.connected());
  await daemon.bus.nc.flush();
  await bench.bus.nc.flush();
  expect(daemon.exports.mark(OWNER.host)).toBeUndefined();
  expect(daemon.told).toEqual([]);
});
