import { expect, test } from "vitest";
import type { ToolLogger } from "../../../src/actors/tool.ts";
import { openRunLogPages } from "../../../src/runtime/edges/run-log-pages.ts";
import { type LogLine, openRunLogs } from "../../../src/runtime/hosts/run-logs.ts";
import type { TaskWork } from "../../../src/runtime/hosts/task-work.ts";
import { connectBus } from "../../../src/runtime/nats/connection.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { provision } from "../../../src/runtime/nats/provision.ts";
import { subjectsFor } from "../../../src/runtime/subjects.ts";
import { startCable } from "../../helpers/cable.ts";
import { sharedBus } from "../../helpers/shared-bus.ts";
import { until } from "../../helpers/until.ts";

const { bus, nats } = await sharedBus();

test("while the broker is away lines are kept, and beyond what memory may hold the oldest go and are counted", async () => {
  const subjects = subjectsFor(`t${nuid.next()}`);
  await provision(bus, subjects, { ackWaitMs: 5_000 });
  await using cable = await startCable(nats.port);
  const far = await connectBus({ servers: cable.url, name: "far", inboxPrefix: "_INBOX_far" });
  const logs = openRunLogs(far, subjects, "far/1");
  const said: string[] = [];
  const log = (_fields: object | string, message?: string) => void said.push(message ?? "");
  const base: ToolLogger = { debug: log, info: log, warn: log, error: log };
  const work = { task: { runId: "r1", taskId: "t-1", workflow: "w" }, agent: { name: "a" } } as unknown as TaskWork;
  const logger = logs.loggerFor(work, base);

  cable.refuse();
  await until("the connection is lost", () => !far.connected());
  const word = "x".repeat(3_000);
  for (let n = 0; n < 2_000; n += 1) logger.info({ n }, word);
  expect(said).toHaveLength(2_000);
  cable.accept();
  const read = openRunLogPages(bus, subjects);
  const lines = await until("all lines are stored", async () => {
    const all: LogLine[] = [];
    for (let from = 1, more = true; more; ) {
      const page = await read("r1", from, 1_000_000);
      all.push(...page.lines);
      ({ next: from, more } = page);
    }
    return all.at(-1)?.fields?.n === 1_999 ? all : undefined;
  });
  const [first, ...rest] = lines;
  const numbers = rest.map(({ fields }) => fields?.n);
  const lost = 2_000 - rest.length;
  expect(lost).toBeGreaterThan(100);
  expect(first).toMatchObject({ level: "warn", message: `${lost} lines before this were given up` });
  expect(numbers).toEqual(Array.from({ length: rest.length }, (_, n) => lost + n));
  logs.stop();
  await far.close();
}, 30_000);

test("a run that logs much while the broker is away does not cost another one its lines", async () => {
  const subjects = subjectsFor(`t${nuid.next()}`);
  await provision(bus, subjects, { ackWaitMs: 5_000 });
  await using cable = await startCable(nats.port);
  const far = await connectBus({ servers: cable.url, name: "far", inboxPrefix: "_INBOX_far" });
  const logs = openRunLogs(far, subjects, "far/1");
  const silent: ToolLogger = { debug() {}, info() {}, warn() {}, error() {} };
  const loggerOf = (runId: string) =>
    logs.loggerFor(
      { task: { runId, taskId: "t-1", workflow: "w" }, agent: { name: "a" } } as unknown as TaskWork,
      silent,
    );
  const [loud, quiet] = [loggerOf("loud"), loggerOf("quiet")];
  cable.refuse();
  await until("the connection is lost", () => !far.connected());
  const word = "x".repeat(3_000);
  for (let n = 0; n < 1_400; n += 1) loud.info({ n }, word);
  for (let n = 0; n < 10; n += 1) quiet.info({ n }, word);
  cable.accept();
  const read = openRunLogPages(bus, subjects);
  const lines = await until("its lines are stored", async () => {
    const page = await read("quiet", 1, 1_000_000);
    return page.lines.at(-1)?.fields?.n === 9 ? page.lines : undefined;
  });
  expect(lines.map(({ fields }) => fields?.n)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  logs.stop();
  await far.close();
}, 30_000);
