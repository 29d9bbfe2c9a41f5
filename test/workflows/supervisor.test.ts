import { describe, expect, test } from "vitest";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import { RUN_START, superviseRun } from "../helpers/supervised-run.ts";

const secondsIn = (seconds: number) => new Date(RUN_START + seconds * 1_000).toISOString();
const article = defineWorkflow({ name: "article", agents: ["researcher", "writer"] });
const pair = defineWorkflow({
  name: "pair",
  steps: [
    { id: "a", agent: "x", retry: { maxAttempts: 2 } },
    { id: "b", agent: "x" },
  ],
});

describe("a run with a time to start at", () => {
  test("does nothing before it, then begins", () => {
    const run = superviseRun(article, { notBefore: secondsIn(60) });
    expect(run.snapshot.value).toBe("scheduled");
    expect(run.told()).toEqual(["timer.set start"]);
    expect(run.effects).toEqual([{ type: "timer", id: "start", dueAt: secondsIn(60) }]);
    run.fires("start");
    expect(run.snapshot.value).toBe("running");
    expect(run.open()).toEqual(["researcher-1"]);
  });

  test("begins at once when that time is over already", () => {
    const run = superviseRun(article, { notBefore: secondsIn(-60) });
    expect(run.snapshot.value).toBe("running");
  });

  test("is not begun by another timer", () => {
    const run = superviseRun(article, { notBefore: secondsIn(60) });
    run.fires("timeout");
    run.fires("retry.researcher");
    expect(run.snapshot.value).toBe("scheduled");
  });

  test("has its whole time from then on", () => {
    const run = superviseRun(article, { notBefore: secondsIn(60), timeoutMs: 5_000 });
    run.fires("start");
    expect(run.decisions).toContainEqual({ type: "timer.set", data: { id: "timeout", dueAt: secondsIn(65) } });
    expect(run.task("researcher-1").deadline).toBe(secondsIn(65));
  });

  test("has its whole time even when that time was over before it was accepted", () => {
    const run = superviseRun(article, { notBefore: secondsIn(-3_600), timeoutMs: 5_000 });
    expect(run.told()).toContain("timer.set timeout");
    expect(run.task("researcher-1").deadline).toBe(secondsIn(5));
  });

  test("understands an instant in another time zone", () => {
    const run = superviseRun(article, { notBefore: "2026-01-01T01:01:00+01:00", timeoutMs: 1_000 });
    expect(run.snapshot.value).toBe("scheduled");
    run.fires("start");
    expect(run.task("researcher-1").deadline).toBe(secondsIn(61));
  });

  test("is cancelled before it begins without anybody being asked", () => {
    const run = superviseRun(article, { notBefore: secondsIn(60) });
    run.cancel("changed my mind");
    expect(run.told()).toEqual(["timer.set start", "run.cancelled"]);
    expect(run.end()?.data).toEqual({ reason: "changed my mind" });
    run.fires("start");
    expect(run.decisions).toEqual([]);
  });
});

describe("a run with a limit of time", () => {
  test("fails when it is over, and stops what is at work", () => {
    const run = superviseRun(pair, { timeoutMs: 3_000 });
    run.completes("a-1");
    run.fires("timeout");
    expect(run.end()?.data).toEqual({ error: { code: "timeout", message: "the run took longer than 3000 ms" } });
    expect(run.effects).toContainEqual({ type: "stop", child: "b-1" });
    run.completes("b-1");
    expect(run.decisions).toEqual([]);
  });

  test("fails while a step waits to be tried again, and that step is not", () => {
    const run = superviseRun(pair, { timeoutMs: 3_000 });
    run.completes("b-1");
    run.fails("a-1");
    run.fires("timeout");
    expect(run.end()?.type).toBe("run.failed");
    run.fires("retry.a");
    expect(run.decisions).toEqual([]);
  });

  test("that ended in time does not hear of it", () => {
    const run = superviseRun(article, { timeoutMs: 3_000 });
    run.completes("researcher-1");
    run.completes("writer-1");
    run.fires("timeout");
    expect(run.told().filter((words) => words.startsWith("run."))).toEqual(["run.completed"]);
  });
});

describe("cancelling", () => {
  test("stops every task at work and waits for each before the run is cancelled", () => {
    const run = superviseRun(pair);
    run.cancel("enough");
    expect(run.snapshot.value).toBe("cancelling");
    expect(run.effects).toEqual([
      { type: "timer", id: "cancel", dueAt: secondsIn(6) },
      { type: "stop", child: "a-1" },
      { type: "stop", child: "b-1" },
    ]);
    run.fails("a-1", { code: "cancelled", message: "stopped" });
    expect(run.end()).toBeUndefined();
    run.fails("b-1", { code: "cancelled", message: "stopped" });
    expect(run.end()).toMatchObject({ type: "run.cancelled", data: { reason: "enough" } });
  });

  test("does not wait for longer than its time of grace", () => {
    const run = superviseRun(pair);
    run.cancel();
    run.fires("timeout");
    expect(run.snapshot.value).toBe("cancelling");
    run.fires("cancel");
    expect(run.end()).toMatchObject({ type: "run.cancelled", data: {} });
  });

  test("gives tasks ten seconds where nothing is said", () => {
    const run = superviseRun(pair);
    run.fact({ type: "run.cancelling", data: {} });
    expect(run.decisions).toEqual([{ type: "timer.set", data: { id: "cancel", dueAt: secondsIn(11) } }]);
  });

  test("is over at once while a step only waits to be tried again, and that step is not", () => {
    const run = superviseRun(pair);
    run.fails("a-1");
    run.completes("b-1");
    run.cancel();
    expect(run.end()?.type).toBe("run.cancelled");
    run.fires("retry.a");
    expect(run.decisions).toEqual([]);
  });

  test("asks nobody new, whatever comes back meanwhile", () => {
    const run = superviseRun(article);
    run.cancel();
    run.completes("researcher-1", "it finished after all");
    expect(run.told().slice(-2)).toEqual(["timer.set cancel", "run.cancelled"]);
    expect(run.open()).toEqual([]);
  });

  test("takes a handoff that was on its way for the end of that task", () => {
    const support = superviseRun(
      defineWorkflow({
        name: "support",
        entry: "triage",
        agents: [
          { ...agent("triage"), handoffs: [{ to: "billing", context: "full" }] },
          { ...agent("billing"), handoffs: [] },
        ],
      }),
    );
    support.cancel();
    support.handsOff("h0", { to: "billing" });
    expect(support.told().slice(-1)).toEqual(["run.cancelled"]);
  });

  test("a second time changes nothing, neither the reason nor the time of grace", () => {
    const run = superviseRun(pair);
    run.cancel("first");
    run.cancel("second");
    expect(run.decisions).toEqual([]);
    run.fires("cancel");
    expect(run.end()?.data).toEqual({ reason: "first" });
  });

  test("a run that is over changes nothing", () => {
    const completed = superviseRun(article);
    completed.completes("researcher-1");
    completed.completes("writer-1");
    const failed = superviseRun(article);
    failed.fails("researcher-1", { code: "no", message: "no", retryable: false });
    const cancelled = superviseRun(article, { notBefore: secondsIn(60) });
    cancelled.cancel();
    for (const run of [completed, failed, cancelled]) {
      const told = run.told();
      run.cancel("late");
      expect(run.told()).toEqual(told);
      expect(run.snapshot.status).toBe("done");
    }
  });
});

describe("facts that do not matter any more", () => {
  test("of a task that has settled are ignored, so that nothing is asked or completed twice", () => {
    const run = superviseRun(article);
    run.completes("researcher-1", "first");
    run.completes("researcher-1", "second");
    run.fails("researcher-1");
    expect(run.decisions).toEqual([]);
    expect(run.open()).toEqual(["writer-1"]);
    expect(run.task("writer-1").input).toContain("first");
  });

  test("of an attempt that was given up are ignored", () => {
    const run = superviseRun(pair);
    run.fails("a-1");
    run.completes("a-1", "late");
    expect(run.decisions).toEqual([]);
    run.fires("retry.a");
    run.completes("a-1", "later still");
    expect(run.open()).toEqual(["b-1", "a-2"]);
  });

  test("of tasks and timers nobody knows are ignored", () => {
    const run = superviseRun(pair);
    for (const id of ["nobody", "constructor", "__proto__"]) {
      run.completes(id);
      run.fires(id);
      run.fires(`retry.${id}`);
      expect(run.decisions).toEqual([]);
    }
  });

  test("of a timer that has fired are ignored", () => {
    const run = superviseRun(pair);
    run.fails("a-1");
    run.fires("retry.a");
    run.fires("retry.a");
    expect(run.decisions).toEqual([]);
    expect(run.open()).toEqual(["b-1", "a-2"]);
  });

  test("after the end leave one terminal event", () => {
    const run = superviseRun(pair, { timeoutMs: 1_000 });
    run.completes("a-1");
    run.completes("b-1");
    run.fires("timeout");
    run.cancel();
    run.completes("b-1");
    run.fails("a-1");
    expect(run.told().filter((words) => words.startsWith("run."))).toEqual(["run.completed"]);
  });
});

function agent(name: string) {
  return {
    name,
    instructions: "Help.",
    model: "m",
    provider: "openai",
    settings: {},
    tools: [],
    maxTurns: 4,
    timeoutMs: 1_000,
    toolTimeoutMs: 1_000,
    mcp: [],
    maxParallelTools: 1,
    maxModelAttempts: 1,
    concurrency: 1,
    maxWaiting: 1,
    remote: false,
  };
}

test("a run that cannot begin says so instead of standing still", () => {
  expect(() => superviseRun(article, { timeoutMs: Number.MAX_SAFE_INTEGER })).toThrow(RangeError);
});
