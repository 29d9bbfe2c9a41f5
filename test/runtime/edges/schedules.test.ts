import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { DefinitionError } from "../../../src/errors.ts";
import type { TroupeConfig } from "../../../src/runtime/config/define-config.ts";
import { checkConfig } from "../../../src/runtime/config/load-config.ts";
import { type Client, connect } from "../../../src/runtime/edges/client.ts";
import { serve } from "../../../src/runtime/edges/serve.ts";
import { rulesModel, say } from "../../../src/testing/index.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import { type ScheduleOptions, type ScheduleTermsOptions, scheduledRunId } from "../../../src/workflows/schedule.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";
import { until } from "../../helpers/until.ts";

const writer = defineAgent({ name: "writer", instructions: "Write.", model: "m" });
const YEARLY = { cron: "0 0 1 1 *", timezone: "Europe/Berlin" };
const yearly = defineWorkflow({ name: "yearly", agents: [writer], schedule: YEARLY });
const report = defineWorkflow({ name: "report", agents: [writer] });

let nats: TestNats;
let data: string;
let client: Client;

beforeAll(async () => {
  nats = await startTestNats();
  data = await mkdtemp(join(tmpdir(), "troupe-schedules-"));
  client = await connect({ servers: nats.url });
});
afterAll(async () => {
  await client?.close();
  await nats?.[Symbol.asyncDispose]();
  await rm(data, { recursive: true, force: true });
});

async function daemon(config: Partial<TroupeConfig> = {}) {
  const running = await serve(
    {
      agents: [writer],
      workflows: [report],
      providers: { openai: rulesModel([{ agent: "writer", reply: ({ lastUser }) => say(`about ${lastUser}`) }]) },
      daemon: { nats: [nats.url], data, httpPort: 0, drainTimeoutMs: 1_000 },
      ...config,
    },
    { logger: pino({ level: "silent" }), env: {}, telemetry: false },
  );
  return Object.assign(running, { [Symbol.asyncDispose]: () => running.drain() });
}

const named = async (name: string) => (await client.schedules()).find((schedule) => schedule.name === name);

test("schedules of a workflow and of the configuration are kept, and what somebody paused stays paused over restarts", async () => {
  const config = {
    workflows: [report, yearly],
    schedules: { newyear: { ...YEARLY, workflow: "report", input: "hello" } },
  };
  {
    await using _first = await daemon(config);
    await until("both are there", async () => (await client.schedules()).length === 2);
    expect(await named("newyear")).toEqual({
      ...YEARLY,
      name: "newyear",
      workflow: "report",
      input: "hello",
      missed: "once",
      overlap: "allow",
      paused: false,
      declared: true,
      next: expect.stringMatching(/-12-31T23:00:00\.000Z$/),
    });
    expect(await named("yearly")).toMatchObject({ workflow: "yearly", declared: true });
    await expect(client.putSchedule("newyear", { ...YEARLY, workflow: "report" })).rejects.toMatchObject({
      code: "schedule_declared",
    });
    await expect(client.deleteSchedule("newyear")).rejects.toMatchObject({ code: "schedule_declared" });
    const same = { ...YEARLY, workflow: "report", input: "hello" };
    expect(await client.putSchedule("newyear", { ...same, paused: true })).toMatchObject({ paused: true });
  }
  {
    await using _second = await daemon(config);
    expect(await named("newyear")).toMatchObject({ paused: true, declared: true });
    expect((await named("newyear"))?.next).toBeUndefined();
  }
  // One whose configuration has them no more: they do not fire, and can be deleted.
  await using _third = await daemon();
  expect(await named("yearly")).toMatchObject({ declared: true });
  expect((await named("yearly"))?.next).toBeUndefined();
  await client.deleteSchedule("newyear");
  await client.deleteSchedule("yearly");
  await until("they are gone", async () => (await client.schedules()).length === 0);
});

test("a schedule that is put starts runs that know which instant they are for", async () => {
  await using _one = await daemon();
  const at = new Date(Date.now() + 400).toISOString();
  expect(await client.putSchedule("soon", { workflow: "report", at })).toMatchObject({ next: at, declared: false });
  const last = await until("it has fired", async () => (await named("soon"))?.last);
  expect(last.dueAt).toBe(at);
  expect(Date.parse(last.firedAt) - Date.parse(at)).toBeLessThan(5_000);
  expect(await client.result(last.runId)).toContain("soon");
  const run = await client.get(last.runId);
  expect(run).toMatchObject({ metadata: { schedule: "soon", dueAt: at }, input: { schedule: "soon", dueAt: at } });
  await until("the list knows how it ended", async () => (await named("soon"))?.last?.status === "completed");
  expect((await named("soon"))?.next).toBeUndefined();
  await client.deleteSchedule("soon");
});

test.each([
  ["an unknown workflow", "s", { workflow: "rapport", everyMs: 1_000 }, "unknown_workflow", /"rapport"/],
  ["no timing", "s", { workflow: "report" }, "invalid_request", /expected one of cron, at and everyMs/],
  ["an instant that is over", "s", { workflow: "report", at: "2020-01-01T00:00:00Z" }, "invalid_request", /to come/],
  ["a name that is none", "a.b", { workflow: "report", everyMs: 1_000 }, "invalid_request", /name: expected a name/],
  ["a field there is not", "s", { workflow: "report", everyMs: 1_000, when: 1 }, "invalid_request", /when/],
])("%s is refused, and says so", async (_, name, schedule, code, message) => {
  await using _one = await daemon();
  const put = client.putSchedule(name, schedule as ScheduleOptions);
  await expect(put).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  await expect(client.deleteSchedule(name === "a.b" ? "s" : name)).rejects.toMatchObject({ code: "unknown_schedule" });
});

test("what is wrong with the schedules of a configuration is told with its place", async () => {
  const config = {
    agents: [writer],
    workflows: [report, yearly],
    schedules: {
      a: { workflow: "rapport", everyMs: 1_000 },
      b: { workflow: "report", cron: "nonsense" },
      c: 7,
      yearly: { workflow: "report", everyMs: 1_000 },
    },
  };
  const problems = await checkConfig(config, { fileName: "troupe.yaml", dir: "." }).catch((error: unknown) =>
    error instanceof DefinitionError ? error.problems : Promise.reject(error),
  );
  expect(problems).toMatchObject([
    { path: "schedules.a.workflow", got: '"rapport"' },
    { path: "schedules.b.cron", got: '"nonsense"' },
    { path: "schedules.c", expected: "an object" },
    { path: "schedules.yearly", expected: "another name than that of a workflow with a schedule of its own" },
  ]);
});

test("a workflow that is put brings its schedule, which changes and goes with it, and made up for is nothing of when it was away", async () => {
  await using _running = await daemon();
  const put = (schedule?: ScheduleTermsOptions) => {
    const article = { agents: ["writer"], ...(schedule && { schedule }) };
    return client.putWorkflows({ workflows: { article } });
  };
  const runs = async () => (await client.list({ workflow: "article", limit: 100 })).runs.length;
  await put({ everyMs: 1_000, missed: "all", input: "tea" });
  const first = await until("it has fired", async () => (await named("article"))?.last?.runId);
  expect(await client.result(first)).toBe("about tea");
  expect(await named("article")).toMatchObject({ workflow: "article", declared: true, input: "tea" });
  await expect(client.putSchedule("article", { workflow: "article", ...YEARLY })).rejects.toMatchObject({
    code: "schedule_declared",
  });

  await put();
  await until("it fires no more", async () => (await named("article"))?.next === undefined);
  const before = await runs();
  const away = Date.now();
  await until("some instants have passed", () => Date.now() > away + 4_000);
  expect(await runs()).toBe(before);
  const back = Date.now();
  await put({ everyMs: 1_000, missed: "all", input: "tea" });
  await until("it fires again", async () => Date.parse((await named("article"))?.last?.dueAt ?? "") > back);
  const made = (await client.list({ workflow: "article", limit: 100 })).runs.map(({ runId }) => runId);
  const dueAway = Array.from({ length: 3 }, (_, i) => Math.ceil(away / 1_000 + 1 + i) * 1_000).filter(
    (ms) => ms < back,
  );
  expect(dueAway.length).toBeGreaterThanOrEqual(2);
  for (const dueMs of dueAway) expect(made).not.toContain(scheduledRunId("article", dueMs));

  await put(YEARLY);
  await until("it has the other timing", async () => (await named("article"))?.next?.includes("-12-31T23:00"));
  await client.deleteWorkflow("article");
  await until("it is nobody's", async () => (await named("article"))?.next === undefined);
  await client.deleteSchedule("article");
  // One may also be put for a workflow that is only stored.
  await client.putWorkflows({ workflows: { stored: { agents: ["writer"] } } });
  expect(await client.putSchedule("later", { workflow: "stored", ...YEARLY })).toMatchObject({ declared: false });
  await client.deleteSchedule("later");
});
