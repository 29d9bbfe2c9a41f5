import { expect, test } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import type { OutcomeMessage, OutcomeReceipt } from "../../../src/actors/task.ts";
import { type DraftBase, emptyDraft, type Happening, sendingsOf, take } from "../../../src/runtime/hosts/run-draft.ts";
import { silentFor } from "../../../src/runtime/hosts/tracked-task.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";
import type { WorkflowDefinition } from "../../../src/workflows/definition.ts";
import { eventsOf } from "../../helpers/run-events.ts";

const AT = "2030-01-31T09:00:00.000Z";
const done = { resolve() {}, reject() {} };
const writer = defineAgent({ name: "writer", instructions: "Write.", model: "m" });
const editor = defineAgent({ name: "editor", instructions: "Edit.", model: "m" });
const front = defineAgent({ name: "front", instructions: "Hand over.", model: "m", handoffs: [writer] });
const chain = defineWorkflow({ name: "chain", agents: [writer, editor] });
const relay = defineWorkflow({ name: "relay", entry: front, agents: [front, writer] });
const pair = defineWorkflow({
  name: "pair",
  steps: [
    { id: "a", agent: writer },
    { id: "b", agent: editor },
  ],
});
const CANCEL: Happening = { type: "fact", body: { type: "run.cancelling", data: {} } };

/** A run that has just begun, as its journal has it. */
function begun(definition: WorkflowDefinition): DraftBase {
  const base: DraftBase = {
    runId: "r",
    definition,
    snapshot: undefined,
    sendings: new Map(),
    newTaskId: (hop) => `h${hop}-new`,
  };
  const { kind, name: workflow, version, hash } = definition;
  const trace = { traceId: "0".repeat(32), sampled: false };
  const accepted = { type: "run.accepted", data: { input: "bees", workflow, version, hash, kind, trace } } as const;
  const claimed = { type: "run.claimed", data: { host: "a", incarnation: "1", reason: "accepted" } } as const;
  const { snapshot } = draftOf(base, [{ type: "begin", accepted, claimed, reused: [], done }]);
  return { ...base, snapshot };
}

function draftOf(base: DraftBase, happenings: readonly Happening[]) {
  const draft = emptyDraft(AT, base.snapshot);
  for (const happening of happenings) take(base, draft, happening);
  return draft;
}

function openTaskId({ snapshot }: DraftBase): string {
  return Object.keys(snapshot?.context.open ?? {})[0] as string;
}

/** An outcome, and the receipts that its worker got. */
function outcome(taskId: string, words: object = { type: "completed", output: "text" }) {
  const receipts: string[] = [];
  const message = { v: 1, taskId, attempt: 1, ...words } as OutcomeMessage;
  const answer = ({ type }: OutcomeReceipt) => void receipts.push(type);
  return { happening: { type: "outcome", message, answer } as const, receipts };
}

test("a fact, what follows from it and what is to be done are in one draft, and nobody is answered yet", () => {
  const base = begun(chain);
  const { happening, receipts } = outcome(openTaskId(base));
  const draft = draftOf(base, [happening]);
  expect(draft.bodies.map(({ type }) => type)).toEqual(["task.settled", "step.completed", "step.started", "task.sent"]);
  expect(draft.effects.map(({ type }) => type)).toContain("askAgent");
  expect(receipts).toEqual([]);
  for (const answer of draft.answers) answer();
  expect(receipts).toEqual(["recorded"]);
});

test("the same outcome twice in one batch is recorded once", () => {
  const base = begun(chain);
  const [first, second] = [outcome(openTaskId(base)), outcome(openTaskId(base))];
  const draft = draftOf(base, [first.happening, second.happening]);
  for (const answer of draft.answers) answer();
  expect([first.receipts, second.receipts]).toEqual([["recorded"], ["superseded"]]);
  expect(draft.bodies.filter(({ type }) => type === "task.settled")).toHaveLength(1);
});

test("a task that answers while it is given up is settled once, by whichever came first", () => {
  const base = begun(pair);
  const error = { code: "cancelled", message: "stopped before a worker had it" };
  const data = { taskId: "a-1", agent: "writer", outcome: { type: "failed", error } } as const;
  const stopped: Happening = { type: "fact", body: { type: "task.settled", data } };
  const receipts = [0, 1].map((turn) => {
    const answered = outcome("a-1");
    const pair = [answered.happening, stopped];
    const draft = draftOf(base, [CANCEL, ...(turn === 0 ? pair : pair.toReversed())]);
    for (const answer of draft.answers) answer();
    expect(draft.bodies.filter(({ type }) => type === "task.settled")).toHaveLength(1);
    return answered.receipts;
  });
  expect(receipts).toEqual([["recorded"], ["superseded"]]);
});

test("a second cancel in one batch is not recorded, nor is a timer that the run has dropped", () => {
  const fired: Happening = { type: "fact", body: { type: "timer.fired", data: { id: "retry.a" } } };
  const draft = draftOf(begun(pair), [fired, CANCEL, CANCEL]);
  expect(draft.bodies.map(({ type }) => type)).toEqual(["run.cancelling", "timer.set"]);
});

test("a task that is lost twice in one batch is sent twice, each time with a delivery of its own", () => {
  const base = begun(chain);
  const lost: Happening = { type: "redeliver", taskId: openTaskId(base), lost: { reason: "silent" } };
  const draft = draftOf(base, [lost, lost]);
  expect(draft.resent.map(({ task }) => task.delivery)).toEqual([2, 3]);
});

test("a draft that is dropped has counted nothing: the next one counts from the same", () => {
  const base = begun(chain);
  const lost: Happening = { type: "redeliver", taskId: openTaskId(base), lost: { reason: "silent" } };
  const deliveries = [draftOf(base, [lost]), draftOf(base, [lost])].map(({ resent }) => resent[0]?.task.delivery);
  expect(deliveries).toEqual([2, 2]);
});

test("a task whose workers accepted it and fell silent ten times in a row fails, however often it was lost otherwise", () => {
  const base = begun(chain);
  const taskId = openTaskId(base);
  const losing = (silences: number, reason: string) => {
    const again = { ...base, sendings: new Map([[taskId, { delivery: 40, silences }]]) };
    return draftOf(again, [{ type: "redeliver", taskId, lost: { reason } }]);
  };
  const silent = silentFor(15_000);
  expect(losing(8, silent).resent).toMatchObject([{ task: { delivery: 41 }, silences: 9 }]);
  expect(losing(9, "worker gone").resent).toMatchObject([{ task: { delivery: 41 }, silences: 0 }]);
  const last = losing(9, silent);
  expect(last.resent).toEqual([]);
  expect(last.bodies[0]).toMatchObject({ data: { outcome: { error: { code: "worker_lost" } } } });
});

test("how often a task fell silent is known from the journal", () => {
  const make = eventsOf();
  const sent = (delivery: number, reason?: string) =>
    make.next({
      type: "task.sent",
      data: { taskId: "t", agent: "writer", attempt: 1, delivery, ...(reason !== undefined && { lost: { reason } }) },
    });
  const reasons = [undefined, silentFor(1), "worker gone", silentFor(1), silentFor(2)];
  const events = reasons.map((reason, i) => sent(i + 1, reason));
  expect(sendingsOf(events).get("t")).toEqual({ delivery: 5, silences: 2 });
});

test("after the end of the run nothing is added, and workers hear that they are too late", () => {
  const base = begun(chain);
  const taskId = openTaskId(base);
  const failed = outcome(taskId, { type: "failed", error: { code: "no", message: "no", retryable: false } });
  const late = outcome(taskId);
  const note: Happening = { type: "note", body: { type: "signal.received", data: { seq: 1, kind: "cancel" } } };
  const fact: Happening = { type: "fact", body: { type: "run.cancelling", data: {} } };
  const draft = draftOf(base, [
    failed.happening,
    late.happening,
    note,
    fact,
    { type: "redeliver", taskId, lost: { reason: "silent" } },
  ]);
  expect(draft.bodies.at(-1)?.type).toBe("run.failed");
  for (const answer of draft.answers) answer();
  expect(late.receipts).toEqual(["superseded"]);
});

test("an outcome of a handed-off task that the journal has not reached is not answered", () => {
  const base = begun(relay);
  const ahead = outcome("h5-x");
  const passed = outcome("h0-x");
  const draft = draftOf(base, [ahead.happening, passed.happening]);
  for (const answer of draft.answers) answer();
  expect([ahead.receipts, passed.receipts]).toEqual([[], ["superseded"]]);
});

test("a handoff goes on with the task its worker has sent, but never with one that is open already", () => {
  const base = begun(relay);
  const taskId = openTaskId(base);
  const nextOf = (next?: object) => {
    const handoff = outcome(taskId, { type: "handoff", to: "writer", ...(next && { next }) });
    const [fact] = draftOf(base, [handoff.happening]).bodies;
    return fact?.type === "agent.handoff" ? fact.data.next : undefined;
  };
  const sent = { taskId: "h1-sent", forwarded: true };
  expect(nextOf(sent)).toEqual(sent);
  expect(nextOf({ taskId, forwarded: true })).toEqual({ taskId: "h1-new", forwarded: false });
  expect(nextOf()).toEqual({ taskId: "h1-new", forwarded: false });
});

test("a run that is cancelled again before the first time is on record is cancelled once", () => {
  const base = begun(chain);
  const cancel: Happening = { type: "fact", body: { type: "run.cancelling", data: { reason: "enough" } } };
  const first = draftOf(base, [cancel, cancel]);
  expect(first.bodies.filter(({ type }) => type === "run.cancelling")).toHaveLength(1);
  expect(draftOf({ ...base, snapshot: first.snapshot }, [cancel]).bodies).toEqual([]);
});
