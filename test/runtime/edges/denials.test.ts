import { pino } from "pino";
import { beforeEach, expect, test, vi } from "vitest";
import { sayDenials } from "../../../src/runtime/edges/denials.ts";

let lines: { subject: string; msg: string; deniedSince?: number }[];
let denied: ReturnType<typeof sayDenials>;

beforeEach(() => {
  lines = [];
  denied = sayDenials(pino({}, { write: (line) => void lines.push(JSON.parse(line)) }));
});

test("what is denied is said with its subject and operation, once for all subjects of a kind", () => {
  for (let run = 1; run <= 1_000; run += 1) {
    denied(`troupe.runs.run-${run}`, "publish");
    denied(`_INBOX_troupe_daemon.owner.x.run-${run}`, "publish");
    denied(`$JS.API.CONSUMER.CREATE.TROUPE_RUNS.read-${run}`, "publish");
    denied(`$JS.ACK.TROUPE_REQUESTS.door.1.${run}`, "publish");
  }
  denied("troupe.runs.run-1", "subscribe");
  expect(lines.map(({ subject }) => subject)).toEqual([
    "troupe.runs.run-1",
    "_INBOX_troupe_daemon.owner.x.run-1",
    "$JS.API.CONSUMER.CREATE.TROUPE_RUNS.read-1",
    "$JS.ACK.TROUPE_REQUESTS.door.1.1",
    "troupe.runs.run-1",
  ]);
  expect(lines[0]?.msg).toContain("NATS denies this connection to publish on troupe.runs.run-1");
});

test("it is said again after ten minutes, with how often it was denied in between", () => {
  const clock = vi.spyOn(performance, "now").mockReturnValue(0);
  denied("troupe.presence", "publish");
  denied("troupe.presence", "publish");
  clock.mockReturnValue(600_000);
  denied("troupe.presence", "publish");
  clock.mockRestore();
  expect(lines).toMatchObject([{}, { deniedSince: 1 }]);
  expect(lines).toHaveLength(2);
});

test("subjects that others choose cannot fill the log", () => {
  for (let i = 0; i < 10_000; i += 1) denied(`reply-${i}.x`, "publish");
  expect(lines.length).toBeLessThanOrEqual(101);
});
