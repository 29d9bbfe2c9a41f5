import { expect, test } from "vitest";
import type {
  BrokerReport,
  DaemonReport,
  JetStreamReport,
  StreamReport,
} from "../../../src/runtime/edges/diagnosis.ts";
import { ailmentsOf, type Seen } from "../../../src/runtime/edges/doctor-ailments.ts";
import { subjectsFor } from "../../../src/runtime/subjects.ts";

const subjects = subjectsFor();
const norms = { subjects, staleAfterMs: 60_000, listenMs: 1_200 };

const BROKER: BrokerReport = {
  url: "127.0.0.1:4222",
  version: "2.10.0",
  name: "n1",
  embedded: false,
  roundTripMs: 1,
  maxPayload: 1_048_576,
  powerLoss: "nothing",
};
const JETSTREAM: JetStreamReport = { storageBytes: 0, memoryBytes: 0, streams: 6, consumers: 3, apiErrors: 0 };

function streams(changes: Partial<StreamReport> = {}): StreamReport[] {
  return Object.values(subjects.streams).map((name) => ({ name, messages: 0, bytes: 0, replicas: 1, ...changes }));
}

const SOUND: Seen = {
  at: "2030-01-31T09:00:00.000Z",
  prefix: "troupe",
  broker: BROKER,
  jetstream: JETSTREAM,
  streams: streams(),
  door: { waiting: 0, inHand: 0, redelivered: 0, pulls: 1 },
  backlog: [],
  daemons: [{ host: "h", incarnation: "i", agents: [], workflows: ["article@1"], load: { runs: 0, tasks: 0 } }],
  runs: { pending: 0, running: 0, waiting: 0, failing: 0, cancelling: 0, more: false, parked: [] },
  deadLetters: 0,
};

const messages = (changes: Partial<Seen>) => ailmentsOf({ ...SOUND, ...changes }, norms).map(({ message }) => message);

test("what is sound has no ailments, and what was not seen has none either", () => {
  expect(messages({})).toEqual([]);
  expect(ailmentsOf({ at: SOUND.at }, norms)).toEqual([]);
});

test.each([
  [1_200, 20, ["the broker's clock is 1200 ms ahead of this machine's"]],
  [-61_000, 20, ["the broker's clock is 61000 ms behind this machine's"]],
  [900, 0, []],
  // It may be half a second less.
  [1_200, 500, []],
])("a clock that is %i ms off, give or take %i", (clockOffsetMs, clockUncertaintyMs, expected) => {
  expect(messages({ broker: { ...BROKER, clockOffsetMs, clockUncertaintyMs } })).toEqual(expected);
});

test("a store near its limit is told before it is full", () => {
  const jetstream = { ...JETSTREAM, storageBytes: 81, maxStorageBytes: 100, maxStreams: 100 };
  expect(messages({ jetstream })).toEqual(["JetStream's storage is at 81 % of its limit"]);
});

test("copies that are away or behind, and a stream that nobody leads", () => {
  const impaired = [
    { server: "n2", offline: true, behind: 0 },
    { server: "n3", offline: false, behind: 12 },
  ];
  const [first, ...others] = streams({ replicas: 3, leader: "n1" });
  expect(messages({ streams: [{ ...(first as StreamReport), impaired }, ...others] })).toEqual([
    "the copy of TROUPE_REQUESTS on n2 is away",
    "the copy of TROUPE_REQUESTS on n3 is behind by 12",
  ]);
  const { leader: _leader, ...leaderless } = first as StreamReport;
  expect(messages({ streams: [leaderless, ...others] })).toEqual([
    "the stream TROUPE_REQUESTS has no leader: nothing can be stored in it",
  ]);
});

test("providers that are down, and the agents that wait for them", () => {
  const [daemon] = SOUND.daemons ?? [];
  const down = [{ provider: "local", reason: "connection refused" }];
  const told = (tripped?: string[]) =>
    messages({ daemons: [{ ...(daemon as DaemonReport), down, ...(tripped && { tripped }) }] });
  expect(told(["writer", "editor"])).toEqual([
    "the provider local is down for h, and writer, editor wait for a provider: connection refused",
  ]);
  expect(told()).toEqual(["the provider local is down for h: connection refused"]);
});

test("requests without the consumer that daemons take them from", () => {
  const { door: _door, ...rest } = SOUND;
  expect(ailmentsOf(rest, norms).map(({ code }) => code)).toEqual(["door_missing"]);
});

test("several parked runs and dead letters are counted", () => {
  const parked = ["a", "b", "c"].map((runId) => ({ runId, workflow: "article", reason: "why" }));
  const runs = { pending: 0, running: 0, waiting: 3, failing: 0, cancelling: 0, more: false, parked };
  expect(messages({ runs, deadLetters: 2 })).toEqual(["3 runs are parked: a, and 2 more", "there are 2 dead letters"]);
});
