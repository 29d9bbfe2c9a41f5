import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Beat, type Presence, startPresence } from "../../../src/runtime/hosts/presence.ts";
import type { RunHost } from "../../../src/runtime/hosts/run-host.ts";
import { openRunIndex, type RunIndex } from "../../../src/runtime/hosts/run-index.ts";
import { startTakeover, type Takeover } from "../../../src/runtime/hosts/takeover.ts";
import { connectBus } from "../../../src/runtime/nats/connection.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../../../src/workflows/definition.ts";
import { type HandWorker, type RunBench, startRunBench } from "../../helpers/run-host-bench.ts";
import { until } from "../../helpers/until.ts";

const logger = pino({ level: "silent" });
let bench: RunBench;
let agent: string;
let worker: HandWorker;
let flow: WorkflowDefinition;
let daemons: SmallDaemon[];

beforeAll(async () => {
  bench = await startRunBench();
});
beforeEach(async () => {
  agent = `agent-${nuid.next()}`;
  flow = defineWorkflow({
    name: agent,
    steps: [
      { id: "one", agent, retry: { maxAttempts: 2, delayMs: 400, backoff: "fixed" } },
      { id: "two", agent, after: "one" },
    ],
  });
  worker = await bench.worker(agent, "hands/1");
  daemons = [];
});
afterEach(async () => {
  worker.stop();
  for (const daemon of daemons) await daemon.stop();
});
afterAll(() => bench[Symbol.asyncDispose]());

/** As much of a daemon as taking over takes. */
type SmallDaemon = {
  readonly incarnation: string;
  readonly runs: RunHost;
  readonly presence: Presence;
  readonly takeover: Takeover;
  readonly index: RunIndex;
  readonly vanished: string[];
  /** Ends it without a word, as SIGKILL does. */
  kill(): void;
  stop(): Promise<void>;
};

async function daemon(
  name: string,
  { definitions = [flow], lookAroundMs = 60_000, suspectAfterMs = 400, starting = false } = {},
): Promise<SmallDaemon> {
  const incarnation = nuid.next();
  const bus = await connectBus({ servers: bench.nats.url, name, inboxPrefix: `_INBOX_${name}` });
  const index = openRunIndex({ file: ":memory:", bus, subjects: bench.subjects, logger });
  await index.whenCaughtUp();
  const runs = await bench.host(name, definitions, {
    bus,
    writer: { host: name, incarnation },
    inbox: `_INBOX_${name}.owner.${incarnation}`,
    workersOf: () => ["hands/1"],
    isLiving: (other) => presence.isLiving(other),
  });
  index.onEntry((runId, events, seq) => runs.seen(runId, events, seq));
  const self = (): Beat => ({
    v: 1,
    host: name,
    incarnation,
    agents: [],
    tools: [],
    workflows: definitions.map((definition) => `${definition.name}@${definition.hash}`),
    load: { runs: runs.size(), tasks: 0 },
    ...(starting && { starting: true as const }),
  });
  const presence = startPresence({ bus, subjects: bench.subjects, logger, beatMs: 50, suspectAfterMs, self });
  const vanished: string[] = [];
  const takeover = startTakeover({
    presence,
    runs,
    self,
    logger,
    lookAroundMs,
    suspectAfterMs,
    unfinished: () => index.unfinished().filter(({ workflow }) => workflow === agent),
    adopted: () => {},
    vanished: (runId) => vanished.push(runId),
  });
  let alive = true;
  const end = () => {
    alive = false;
    takeover.stop();
    presence.stop();
    runs.stop();
  };
  const made: SmallDaemon = {
    incarnation,
    runs,
    presence,
    takeover,
    index,
    vanished,
    kill: end,
    async stop() {
      if (alive) end();
      await index.close();
      await bus.close();
    },
  };
  daemons.push(made);
  return made;
}

const known = (...all: SmallDaemon[]) =>
  until("the daemons know each other", () => all.every(({ presence }) => presence.living().length === all.length));
const claims = async (runId: string) =>
  (await bench.events(runId)).flatMap((event) => (event.type === "run.claimed" ? [event] : []));

describe("when a daemon is killed", () => {
  test("another one takes its runs over and they end with what was recorded", async () => {
    const [a, b] = [await daemon("a"), await daemon("b")];
    await known(a, b);
    const runId = await bench.start(a.runs, agent);
    await worker.gets("one-1");
    await worker.completes("one-1", "recorded before");
    await worker.gets("two-1");
    worker.honest = false;
    a.kill();
    const again = await worker.gets("two-1", 2);
    expect(again.delivery).toBe(2);
    expect(again.input).toContain("recorded before");
    await worker.completes("two-1", "the end");
    expect(await bench.end(runId)).toMatchObject({ type: "run.completed", data: { output: "the end" }, epoch: 2 });
    expect(worker.tasks.filter(({ taskId }) => taskId === "one-1")).toHaveLength(1);
    expect((await claims(runId)).map(({ data }) => data)).toEqual([
      { host: "a", incarnation: a.incarnation, reason: "accepted" },
      { host: "b", incarnation: b.incarnation, reason: "takeover" },
    ]);
    const numbers = (await bench.events(runId)).map(({ n }) => n);
    expect(numbers).toEqual(numbers.map((_, i) => i + 1));
  });

  test("a task that is still at work is left with its worker, whose outcome goes to the new owner", async () => {
    const [a, b] = [await daemon("a"), await daemon("b")];
    await known(a, b);
    const runId = await bench.start(a.runs, agent);
    await worker.gets("one-1");
    worker.say("accepted", "one-1");
    const old = worker.replyTo("one-1");
    a.kill();
    await until("the new owner has asked", () => worker.replyTo("one-1") !== old);
    await until("it owns the run", () => b.runs.owns(runId));
    expect(await worker.completes("one-1", "kept")).toBe("recorded");
    const next = await worker.gets("two-1");
    expect(next.input).toContain("kept");
    expect(worker.tasks.filter(({ taskId }) => taskId === "one-1")).toHaveLength(1);
  });

  test("an outcome that its worker had to store is found, and the task not sent again", async () => {
    const [a, b] = [await daemon("a"), await daemon("b")];
    await known(a, b);
    const runId = await bench.start(a.runs, agent);
    await worker.gets("one-1");
    worker.honest = false;
    a.kill();
    const outcome = { v: 1, taskId: "one-1", attempt: 1, type: "completed", output: "stored", usage: ZERO };
    const entry = { v: 1, id: nuid.next(), at: new Date().toISOString(), type: "outcome", outcome };
    const subject = bench.subjects.task(runId, "one-1");
    await bench.taskJournals.append(subject, Buffer.from(JSON.stringify(entry)), { expected: 0, id: entry.id });
    const next = await worker.gets("two-1");
    expect(next.input).toContain("stored");
    expect(worker.tasks.filter(({ taskId }) => taskId === "one-1")).toHaveLength(1);
    expect(b.runs.owns(runId)).toBe(true);
  });

  test("in the moment in which its run goes on without a task, the worker of that is told to stop", async () => {
    flow = defineWorkflow({
      name: agent,
      steps: [
        {
          id: "g",
          onError: "continue",
          steps: [
            { id: "one", agent },
            { id: "two", agent },
          ],
        },
        { id: "beside", agent },
      ],
    });
    const [a, b] = [await daemon("a"), await daemon("b")];
    await known(a, b);
    const runId = await bench.start(a.runs, agent);
    await Promise.all([worker.gets("beside-1"), worker.gets("g/one-1"), worker.gets("g/two-1")]);
    await worker.settle("g/one-1", { type: "failed", error: { code: "no", message: "no" } });
    const isCalledOff = async () => (await bench.events(runId)).some(({ type }) => type === "step.cancelled");
    await until("its run goes on without the other", isCalledOff);
    // Whoever took it has not said so yet, as where its owner died before it could be told.
    expect(worker.controls).toEqual([]);
    a.kill();
    await worker.controlled("cancel", "g/two-1");
    expect(b.runs.owns(runId)).toBe(true);
    await worker.completes("beside-1");
    expect((await bench.end(runId)).type).toBe("run.completed");
  });

  test("a retry that waits for its time is made at that time by the new owner", async () => {
    const [a, b] = [await daemon("a"), await daemon("b")];
    await known(a, b);
    const runId = await bench.start(a.runs, agent);
    await worker.gets("one-1");
    await worker.settle("one-1", { type: "failed", error: { code: "model_error", message: "no" } });
    a.kill();
    await worker.gets("one-2");
    const events = await bench.events(runId);
    const fired = events.filter(({ type }) => type === "timer.fired");
    expect(fired).toHaveLength(1);
    expect(fired[0]?.epoch).toBe(2);
    expect(b.runs.owns(runId)).toBe(true);
  });

  test("a run that was being cancelled is cancelled by the new owner", async () => {
    const [a, b] = [await daemon("a"), await daemon("b")];
    await known(a, b);
    const runId = await bench.start(a.runs, agent);
    await worker.gets("one-1");
    worker.say("accepted", "one-1");
    await bench.bus.nc.flush();
    a.runs.cancel(runId, 1, { reason: "enough" });
    await worker.controlled("cancel", "one-1");
    worker.controls.length = 0;
    a.kill();
    await worker.controlled("cancel", "one-1");
    await worker.settle("one-1", { type: "failed", error: { code: "cancelled", message: "stopped" } });
    expect(await bench.end(runId)).toMatchObject({ type: "run.cancelled", data: { reason: "enough" }, epoch: 2 });
    expect(b.runs.owns(runId)).toBe(false);
  });

  test("the living share its runs out, each run to one of them", async () => {
    const [a, b, c] = [await daemon("a"), await daemon("b"), await daemon("c")];
    await known(a, b, c);
    const runIds = await Promise.all(Array.from({ length: 40 }, () => bench.start(a.runs, agent)));
    a.kill();
    await until("all have a new owner", () => runIds.every((id) => b.runs.owns(id) || c.runs.owns(id)));
    expect(b.runs.size() + c.runs.size()).toBe(40);
    expect(Math.min(b.runs.size(), c.runs.size())).toBeGreaterThan(5);
    for (const runId of runIds) expect(await claims(runId)).toHaveLength(2);
  });
});

test("a daemon that leaves hands its runs over at once", async () => {
  const [a, b] = [await daemon("a"), await daemon("b", { suspectAfterMs: 60_000 })];
  await known(a, b);
  const runId = await bench.start(a.runs, agent);
  await worker.gets("one-1");
  await until("it is known to the other one", () => b.index.unfinished().some((row) => row.runId === runId));
  a.runs.releaseAll();
  await a.presence.leave();
  await until("the other one owns it", () => b.runs.owns(runId));
  expect((await claims(runId)).at(-1)?.data.reason).toBe("handed-over");
});

test("a daemon that restarts takes up its own runs", async () => {
  const a = await daemon("a");
  const runId = await bench.start(a.runs, agent);
  await worker.gets("one-1");
  a.kill();
  const again = await daemon("a");
  again.takeover.takeUpOwn();
  await until("the run is back", () => again.runs.owns(runId));
  expect((await claims(runId)).at(-1)?.data).toEqual({ host: "a", incarnation: again.incarnation, reason: "restart" });
});

test("the runs of a daemon that restarts but is slow to start go to those that have started, once it would have been missed", async () => {
  const [a, b] = [await daemon("a"), await daemon("b", { suspectAfterMs: 700 })];
  const runIds = await Promise.all(Array.from({ length: 6 }, () => bench.start(a.runs, agent)));
  for (const runId of runIds) await until("it is listed", () => b.index.get(runId) !== undefined);
  a.kill();
  const since = performance.now();
  await daemon("a", { starting: true });
  for (const runId of runIds) await until("b owns the run", () => b.runs.owns(runId));
  // Neither at once nor as late as the slow clock.
  expect(performance.now() - since).toBeGreaterThan(500);
  expect(performance.now() - since).toBeLessThan(10_000);
});

test("a run nobody noticed is found by looking around, also when everybody died at once", async () => {
  const a = await daemon("a");
  const runId = await bench.start(a.runs, agent);
  await worker.gets("one-1");
  a.kill();
  const b = await daemon("b", { lookAroundMs: 100 });
  await until("somebody owns the run", () => b.runs.owns(runId));
});

test("a run that two take over at once has one owner, and the other lets go", async () => {
  const a = await daemon("a");
  const runId = await bench.start(a.runs, agent);
  await worker.gets("one-1");
  a.kill();
  const [b, c] = [await daemon("b"), await daemon("c")];
  const takeOver = ({ runs }: typeof b) => runs.adopt(runId, "takeover", a.incarnation);
  const results = await Promise.all([takeOver(b), takeOver(c)]);
  expect(results.sort()).toEqual(["adopted", "elsewhere"]);
  expect(Number(b.runs.owns(runId)) + Number(c.runs.owns(runId))).toBe(1);
  expect(await claims(runId)).toHaveLength(2);
});

test("an owner that was only thought dead writes nothing and lets go when it finds out", async () => {
  const [a, b] = [await daemon("a"), await daemon("b")];
  const runId = await bench.start(a.runs, agent);
  await worker.gets("one-1");
  const old = worker.replyTo("one-1");
  expect(await b.runs.adopt(runId, "takeover")).toBe("adopted");
  const before = (await bench.events(runId)).length;
  const zombie = await bench.worker(agent, "zombie/1");
  zombie.forward(worker.tasks[0] as never, old);
  expect(await zombie.completes("one-1", "too late")).toBeUndefined();
  await until("the old owner lets go", () => !a.runs.owns(runId));
  expect((await bench.events(runId)).length).toBe(before);
  zombie.stop();
});

describe("runs at rest", () => {
  const restsAt = ({ runs }: SmallDaemon) => runs.restingByWorkflow().get(agent) ?? 0;
  const scheduled = async ({ runs }: SmallDaemon, count: number) => {
    const notBefore = new Date(Date.now() + 3_600_000).toISOString();
    return Promise.all(Array.from({ length: count }, () => bench.start(runs, agent, { notBefore })));
  };

  test("fall to the living when their owner dies, and again when who keeps them dies, without a word in a journal", async () => {
    const [a, b, c] = [await daemon("a"), await daemon("b"), await daemon("c")];
    await known(a, b, c);
    const runIds = await scheduled(a, 40);
    await until("they rest", () => restsAt(a) === 40);
    a.kill();
    await until("all are kept", () => restsAt(b) + restsAt(c) === 40);
    expect(Math.min(restsAt(b), restsAt(c))).toBeGreaterThan(5);
    b.kill();
    await until("the last one keeps all", () => restsAt(c) === 40);
    for (const runId of runIds) expect(await claims(runId)).toHaveLength(1);

    const [runId] = runIds as [string];
    expect(c.runs.cancel(runId, 7, {})).toBe(true);
    expect(await bench.end(runId)).toMatchObject({ type: "run.cancelled", epoch: 2 });
    await until("it is let go of", () => !c.runs.owns(runId));
    expect(restsAt(c)).toBe(39);
  });

  test("are kept by their own host when it restarts, and by no other", async () => {
    const [a, b] = [await daemon("a"), await daemon("b", { lookAroundMs: 100 })];
    await known(a, b);
    await scheduled(a, 20);
    const resting = () => b.index.unfinished().filter(({ workflow, rests }) => workflow === agent && rests);
    await until("they are known to the other one", () => resting().length === 20);
    a.kill();
    const again = await daemon("a");
    again.takeover.takeUpOwn();
    expect(restsAt(again)).toBe(20);
    await until("the old one is gone", () => !b.presence.isLiving(a.incarnation));
    // Longer than the others leave a host that restarts to itself.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect([restsAt(again), restsAt(b)]).toEqual([20, 0]);
  });

  test("that nobody can go on with are parked at once", async () => {
    const a = await daemon("a");
    const [runId] = (await scheduled(a, 1)) as [string];
    await until("it rests", () => restsAt(a) === 1);
    a.kill();
    const other = defineWorkflow({ name: agent, agents: ["somebody", "else"] });
    const b = await daemon("b", { definitions: [other], lookAroundMs: 100 });
    await until("it is parked", async () => (await bench.events(runId)).some(({ type }) => type === "run.parked"));
    expect(b.runs.owns(runId)).toBe(false);
  });

  test("that went on in their owner's last moment are taken over as what they are", async () => {
    const [a, b] = [await daemon("a"), await daemon("b", { lookAroundMs: 100 })];
    await known(a, b);
    const [runId] = (await scheduled(a, 1)) as [string];
    await until("it rests", () => restsAt(a) === 1);
    a.kill();
    await until("it is kept", () => restsAt(b) === 1);
    await forge(
      runId,
      { type: "timer.fired", data: { id: "start" } },
      { type: "step.started", data: { step: "one", agent } },
      { type: "task.sent", data: { taskId: "one-1", agent, step: "one", attempt: 1, delivery: 1 } },
    );
    await worker.gets("one-1");
    expect(await claims(runId)).toHaveLength(2);
    expect(restsAt(b)).toBe(0);
  });
});

describe("a run that cannot be continued", () => {
  test("for want of its definition says so, and goes on when a daemon with it appears", async () => {
    const a = await daemon("a");
    const runId = await bench.start(a.runs, agent);
    await worker.gets("one-1");
    a.kill();
    const other = defineWorkflow({ name: agent, agents: ["somebody", "else"] });
    const b = await daemon("b", { definitions: [other], lookAroundMs: 100 });
    const parked = await until("it is parked", async () =>
      (await bench.events(runId)).find(({ type }) => type === "run.parked"),
    );
    expect(parked.data).toMatchObject({ reason: expect.stringContaining(flow.hash) });
    expect(b.runs.owns(runId)).toBe(false);
    const length = (await bench.events(runId)).length;
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect((await bench.events(runId)).length).toBe(length);
    const c = await daemon("c", { lookAroundMs: 100 });
    await until("it goes on", () => c.runs.owns(runId));
  });

  test("because its journal leads elsewhere says so once, and is left alone", async () => {
    const a = await daemon("a");
    const runId = await bench.start(a.runs, agent);
    await worker.gets("one-1");
    a.kill();
    await forge(runId, { type: "step.completed", data: { step: "two", taskId: "two-1" } });
    const b = await daemon("b", { lookAroundMs: 100 });
    const parked = await until("it is parked", async () =>
      (await bench.events(runId)).find(({ type }) => type === "run.parked"),
    );
    expect(parked.data).toMatchObject({ reason: expect.stringMatching(/^cannot_fold: /) });
    const length = (await bench.events(runId)).length;
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect((await bench.events(runId)).length).toBe(length);
    expect(b.runs.size()).toBe(0);
  });

  test("because its journal is gone is forgotten", async () => {
    const a = await daemon("a");
    const runId = await bench.start(a.runs, agent);
    a.kill();
    const b = await daemon("b", { lookAroundMs: 100 });
    await until("it was taken over once", () => b.runs.owns(runId));
    b.runs.releaseAll();
    await bench.journals.purge(bench.subjects.run(runId));
    expect(await b.runs.adopt(runId, "takeover")).toBe("unknown");
    await until("that is told", () => b.vanished.includes(runId));
  });
});

test("times in the journal never run backwards, also where the new owner's clock is behind", async () => {
  const now = Date.now();
  const clock = (behindMs: number) => ({
    now: () => now - behindMs,
    at: () => () => {},
  });
  const ahead = await bench.host("ahead", [flow], { clock: clock(0) });
  const behind = await bench.host("behind", [flow], { clock: clock(60_000) });
  const runId = await bench.start(ahead, agent);
  await worker.gets("one-1");
  expect(await behind.adopt(runId, "takeover")).toBe("adopted");
  await until("the task is answered to the new owner", async () => {
    await worker.completes("one-1");
    return (await bench.told(runId)).includes("step.completed one-1");
  });
  const times = (await bench.events(runId)).map(({ at }) => at);
  expect(times).toEqual([...times].sort());
});

const ZERO = { inputTokens: 0, outputTokens: 0, modelCalls: 0 };

/** Puts an event into a journal that no supervisor decided. */
async function forge(runId: string, ...bodies: object[]): Promise<void> {
  const subject = bench.subjects.run(runId);
  const last = await bench.journals.last(subject);
  const n = (last?.value.at(-1)?.n ?? 0) + 1;
  const at = new Date().toISOString();
  const events = bodies.map((body, i) => ({ v: 1, id: nuid.next(), runId, n: n + i, at, epoch: 1, ...body }));
  await bench.journals.append(subject, Buffer.from(JSON.stringify(events)), {
    expected: last?.seq ?? 0,
    id: events[0]?.id ?? "",
  });
}
