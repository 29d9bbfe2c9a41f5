import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { ModelError } from "../../../src/errors.ts";
import { TRACEPARENT_HEADER } from "../../../src/runtime/subjects.ts";
import { startTracing } from "../../../src/tracing/start-tracing.ts";
import { segmentSpanId } from "../../../src/tracing/trace-ids.ts";
import type { Tracing } from "../../../src/tracing/tracing.ts";
import { type Bench, startBench } from "../../helpers/agent-host-bench.ts";
import { startFakeOwner } from "../../helpers/fake-owner.ts";
import { startTestReceiver } from "../../helpers/otlp-receiver.ts";
import { call, echo, say, taskFor } from "../../helpers/task-driver.ts";
import { until } from "../../helpers/until.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());
afterEach(() => vi.unstubAllEnvs());

const traceId = "a".repeat(32);
const spanId = "b".repeat(16);
const traceparent = `00-${traceId}-${spanId}-01`;

let names = 0;
function agentNamed(tools: Parameters<typeof defineAgent>[0]["tools"] = []) {
  names += 1;
  return defineAgent({ name: `traced${names}`, instructions: "Write.", model: "gpt", tools });
}

async function startCollected() {
  const receiver = await startTestReceiver();
  vi.stubEnv("OTEL_BSP_SCHEDULE_DELAY", "20");
  const tracing: Tracing = await startTracing({ url: `${receiver.endpoint}/v1/traces` });
  return {
    receiver,
    tracing,
    async [Symbol.asyncDispose]() {
      await tracing.stop(500);
      await receiver[Symbol.asyncDispose]();
    },
  };
}

test("every try of a model call and every tool is a leaf of the task's segment", async () => {
  await using collected = await startCollected();
  const agent = agentNamed([echo]);
  const owner = startFakeOwner(bench.bus, bench.subjects);
  let failed = false;
  await bench.host(
    [agent],
    ({ context }) => {
      if (context.turn === 2) return say("ok");
      if (failed) return call({ name: "echo", args: { text: "a" } });
      failed = true;
      throw new ModelError("provider_unavailable", "not now", { retryable: true });
    },
    { tracing: collected.tracing },
  );
  owner.send(taskFor(agent.name, { runId: "traced" }), traceparent);
  await owner.outcome("t1");
  const spans = await collected.receiver.until((all) => all.length >= 4 && all);
  expect(spans.map((span) => `${span.name} ${span.status.code}`).sort()).toEqual([
    "chat gpt error",
    "chat gpt unset",
    "chat gpt unset",
    "execute_tool echo unset",
  ]);
  for (const span of spans) expect(span).toMatchObject({ traceId, parentSpanId: spanId });
});

test("leaves of a forwarded task wait until the run's journal knows the task", async () => {
  await using collected = await startCollected();
  const agent = agentNamed([echo]);
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const gate = Promise.withResolvers<void>();
  const script = async ({ context }: { context: { turn: number } }) => {
    if (context.turn === 1) return call({ name: "echo", args: { text: "a" } });
    await gate.promise;
    return say("ok");
  };
  const host = await bench.host([agent], script, { tracing: collected.tracing });
  owner.send(taskFor(agent.name, { runId: "held", forwarded: true }), traceparent);
  await host.called(2);
  // What the journal knows is not held back, and ends later: by then the held leaves could have come.
  const other = agentNamed();
  await bench.host([other], () => say("ok"), { tracing: collected.tracing });
  owner.send(taskFor(other.name, { runId: "held", taskId: "t2" }), `00-${traceId}-${"c".repeat(16)}-01`);
  await collected.receiver.until((all) => all.length >= 1);
  expect(collected.receiver.spans.map((span) => span.parentSpanId)).toEqual(["c".repeat(16)]);

  owner.tell({ type: "known", taskId: "t1" });
  await collected.receiver.until((all) => all.filter((span) => span.parentSpanId === spanId).length >= 2);
  gate.resolve();
});

test.each([
  ["called off leaves no leaves", { type: "cancel", taskId: "t1", reason: "nobody waits for it" }, []],
  ["said to be known leaves its leaves", { type: "known", taskId: "t1" }, [spanId, spanId, spanId]],
] as const)("a forwarded task that is found by asking and then %s", async (_, control, parents) => {
  await using collected = await startCollected();
  const agent = agentNamed([echo]);
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const runId = `asked-${control.type}`;
  const script = ({ context }: { context: { turn: number } }) =>
    context.turn === 1 ? call({ name: "echo", args: { text: "a" } }) : new Promise<never>(() => {});
  const host = await bench.host([agent], script, { tracing: collected.tracing });
  owner.send(taskFor(agent.name, { runId, forwarded: true }), traceparent);
  await host.called(2);
  bench.bus.nc.publish(bench.subjects.owners, JSON.stringify({ v: 1, runId, tasks: ["t1"], reply: owner.reply }));
  await owner.hears("t1", "accepted", 2);
  owner.tell(control);
  if (control.type === "cancel") await until("the host has let go of it", () => host.taskIds().length === 0);
  else await collected.receiver.until((all) => all.length >= parents.length - 1);
  // The call in progress ends with its host.
  await host.stop();
  await collected.tracing.stop(2_000);
  expect(collected.receiver.spans.map((span) => span.parentSpanId)).toEqual(parents);
});

test.each([
  ["recorded", 1],
  ["superseded", 0],
] as const)("a forwarded task whose outcome is %s leaves %i leaves", async (receipt, leaves) => {
  const collected = await startCollected();
  const agent = agentNamed();
  const owner = startFakeOwner(bench.bus, bench.subjects, () => receipt);
  const host = await bench.host([agent], () => say("ok"), { tracing: collected.tracing });
  owner.send(taskFor(agent.name, { runId: receipt, forwarded: true }), traceparent);
  await owner.outcome("t1");
  await until("the host has let go of it", () => host.taskIds().length === 0);
  await collected.tracing.stop(2_000);
  expect(collected.receiver.spans).toHaveLength(leaves);
  await collected.receiver[Symbol.asyncDispose]();
});

test("the next task of a handoff carries the context of its own segment in the run's trace", async () => {
  await using collected = await startCollected();
  const [from, to] = [agentNamed(), agentNamed()];
  const owner = startFakeOwner(bench.bus, bench.subjects);
  const sent: { traceparent: string | undefined; taskId: string }[] = [];
  bench.bus.nc.subscribe(bench.subjects.mailbox(to.name), {
    callback: (_, msg) => {
      sent.push({ traceparent: msg.headers?.get(TRACEPARENT_HEADER), taskId: msg.json<{ taskId: string }>().taskId });
    },
  });
  await bench.bus.nc.flush();
  await bench.host([from], () => call({ name: `transfer_to_${to.name}` }), {
    tracing: collected.tracing,
    handoffsOf: () => [],
  });
  owner.send(taskFor(from.name, { runId: "handed", handoffs: [{ to: to.name }] }), traceparent);
  await owner.outcome("t1");
  await until("the next task is sent", () => sent.length === 1);
  const [next] = sent;
  expect(next?.traceparent).toBe(`00-${traceId}-${segmentSpanId("handed", next?.taskId ?? "", 1)}-01`);
});
