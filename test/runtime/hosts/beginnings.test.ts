import { afterAll, beforeAll, expect, test } from "vitest";
import type { Agent } from "../../../src/actors/agent.ts";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import type { TaskEntry } from "../../../src/actors/task.ts";
import { begunInVain, MOST_DEATHS } from "../../../src/runtime/hosts/beginnings.ts";
import { nuid } from "../../../src/runtime/nats/nats.ts";
import { type Bench, startBench } from "../../helpers/agent-host-bench.ts";
import { type FakeOwner, startFakeOwner } from "../../helpers/fake-owner.ts";
import { call, say, taskFor } from "../../helpers/task-driver.ts";
import { until } from "../../helpers/until.ts";

let bench: Bench;
let agent: Agent;
let runId: string;
let owner: FakeOwner;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());

function setting(): void {
  agent = defineAgent({ name: `writer-${nuid.next()}`, instructions: "Write.", model: "m" });
  runId = nuid.next();
  owner = startFakeOwner(bench.bus, bench.subjects);
}

type Body = TaskEntry extends infer Entry ? (Entry extends unknown ? Omit<Entry, "v" | "id" | "at"> : never) : never;
const begun: Body = { type: "begun", delivery: 2, worker: "gone/1" };
const turn: Body = { type: "turn", turn: 1, reply: call({ name: "no_such_tool", args: {} }) };
const entry = (body: Body): TaskEntry => ({ v: 1, id: nuid.next(), at: new Date().toISOString(), ...body });

async function record(taskId: string, ...bodies: Body[]): Promise<void> {
  for (const body of bodies) {
    await bench.bus.js.publish(bench.subjects.task(runId, taskId), JSON.stringify(entry(body)));
  }
}

const again = (taskId: string, delivery = 20) => owner.send(taskFor(agent.name, { runId, taskId, delivery }));

async function entriesOf(taskId: string): Promise<string[]> {
  return (await bench.journals.read(bench.subjects.task(runId, taskId))).map(({ value }) => value.type);
}

test("what counts is how often it was begun since anything came of it", () => {
  const counted = (...bodies: Body[]) => begunInVain(bodies.map(entry));
  expect(counted()).toBe(0);
  expect(counted(begun, begun)).toBe(2);
  expect(counted(begun, begun, turn, begun)).toBe(1);
  expect(counted(begun, turn)).toBe(0);
  expect(counted(begun, begun, { type: "returned", worker: "here/1" }, begun)).toBe(1);
});

test("only a delivery that is not the first is marked, and before its model is asked", async () => {
  setting();
  const seen: string[][] = [];
  const host = await bench.host([agent], async ({ context }) => {
    seen.push(await entriesOf(context.taskId));
    return say("done");
  });
  again("first", 1);
  await owner.outcome("first");
  again("second", 2);
  await owner.outcome("second");
  expect(seen).toEqual([[], ["begun"]]);
  expect(host.calls).toHaveLength(2);
});

test("a task that was at work in ten deaths in a row fails, and its model is not asked", async () => {
  setting();
  const host = await bench.host([agent], () => say("done"));
  await record("killer", ...Array.from({ length: MOST_DEATHS }, () => begun));
  again("killer");
  expect(await owner.outcome("killer")).toMatchObject({ type: "failed", error: { code: "worker_lost" } });
  await record("slow", ...Array.from({ length: MOST_DEATHS }, () => begun), turn);
  again("slow");
  expect(await owner.outcome("slow")).toMatchObject({ type: "completed" });
  expect(host.calls.map(({ context }) => context.taskId)).toEqual(["slow"]);
});

test("suspects are worked on one after the other, and what is no suspect beside them", async () => {
  setting();
  const gates = new Map<string, () => void>();
  const host = await bench.host([agent], async ({ context }) => {
    await new Promise<void>((resolve) => gates.set(context.taskId, resolve));
    return say("done");
  });
  const working = () => [...gates.keys()].sort();
  for (const taskId of ["s1", "s2", "s3"]) await record(taskId, begun, begun, begun);
  for (const taskId of ["s1", "s2", "s3"]) {
    again(taskId);
    await owner.hears(taskId, "accepted");
  }
  again("fresh", 1);
  await host.called(2);
  expect(working()).toEqual(["fresh", "s1"]);
  // One that waits for its turn has no mark that could count against it, and can be called off.
  expect(await entriesOf("s2")).toEqual(["begun", "begun", "begun"]);
  owner.tell({ type: "cancel", taskId: "s2", reason: "enough" });
  expect(await owner.outcome("s2")).toMatchObject({ type: "failed", error: { code: "cancelled" } });
  gates.get("s1")?.();
  await until("the next one's turn", () => working().includes("s3"));
  for (const open of gates.values()) open();
  expect(await owner.outcome("s3")).toMatchObject({ type: "completed" });
});

test("a worker that drains takes back what it had begun, so that it does not count as a death", async () => {
  setting();
  const host = await bench.host([agent], () => new Promise(() => {}));
  again("t", 2);
  await host.called(1);
  await host.drain(0);
  await owner.hears("t", "busy");
  expect(await entriesOf("t")).toEqual(["begun", "returned"]);
});
