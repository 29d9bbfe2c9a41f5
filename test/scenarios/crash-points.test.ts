import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CRASH_POINTS } from "../../src/runtime/hosts/crash-points.ts";
import { type AskedRuns, askRuns } from "../helpers/asked-runs.ts";
import type { DaemonHome } from "../helpers/daemon-process.ts";
import { openStage, type Stage, type StageOptions } from "../helpers/stage.ts";
import { CHILD_CRASHES, SIGNAL_CRASHES } from "../helpers/step-kind-crashes.ts";
import { until } from "../helpers/until.ts";

/** Two daemons share the runs; the one that dies does not come back before the other has finished everything. */
const BESIDE_A_SURVIVOR = [
  "after-accepted-entry",
  "before-request-ack",
  "after-request-ack",
  "before-settled-entry",
  "after-settled-entry",
  "before-handoff-entry",
  "after-handoff-entry",
  "before-end-entry",
  "after-end-entry",
  "after-result",
  "before-effects:3",
  "between-effects:3",
  "before-task-sent",
  "after-task-sent:2",
  "before-recorded",
  "after-recorded",
  "before-task-accepted",
  "after-task-accepted",
  "after-model-reply",
  "before-reply-entry",
  "after-reply-entry:2",
  "before-tool-entry",
  "after-tool-entry:2",
  "before-next-task",
  "after-next-task",
  "before-outcome",
  "after-outcome",
];

/** A daemon by itself: everything waits until it is back. */
const ALONE = [
  "before-accepted-entry",
  "after-accepted-entry:2",
  "after-request-ack:2",
  "after-settled-entry:2",
  "after-handoff-entry:2",
  "before-end-entry:2",
  "after-end-entry",
  "spans-waiting:2",
  "after-result:2",
  "before-effects",
  "between-effects:2",
  "after-task-sent",
  "after-recorded:3",
  "after-reply-entry",
  "before-tool-entry:4",
  "after-tool-entry",
  "after-next-task:2",
  "after-outcome:2",
  "before-export-mark",
  "after-export-mark",
];

/** Passed by whoever takes up what another life or another daemon has left. */
const TAKING_OVER = [
  "before-claim-entry",
  "after-claim-entry",
  "before-resent-entry",
  "after-resent-entry",
  "before-begun-entry",
  "after-begun-entry",
  "after-claim-entry:2",
];

const REFUSING = ["before-lone-entry", "after-lone-entry"];
const CANCELLING = ["before-cancelling-entry", "after-cancelling-entry"];
const STORING_OUTCOMES = ["before-outcome-entry", "after-outcome-entry"];
/** Only long runs and tools that are executed once come there: see `long-run.test.ts` and `once-tools.test.ts`. */
const ELSEWHERE = ["before-snapshot", "after-snapshot", "before-calling-entry", "after-calling-entry"];

const STAGE: StageOptions = {
  traced: true,
  options: { beatMs: 100, suspectAfterMs: 800, lookAroundMs: 1_000, taskAcceptTimeoutMs: 500, ackWaitMs: 1_000 },
  model: { delayMs: ({ runId }, n) => (runId.startsWith("slow") ? 400 : 10 + ((n * 7) % 30)) },
};
/** Both kinds, two of each. */
const RUNS = ["diamond", "relay", "diamond", "relay"];
const MOST_RUNS = 40;
/** The cases of a suite share its stage. */
const IN_TURN = { concurrent: false, timeout: 60_000 };

test("there is a case for every crash point", () => {
  const lists = [BESIDE_A_SURVIVOR, ALONE, TAKING_OVER, REFUSING, CANCELLING, STORING_OUTCOMES, ELSEWHERE];
  const covered = new Set(lists.flat().map((where) => where.replace(/:\d+$/, "")));
  // The others are passed by steps of other kinds than this fleet has: `step-kinds.test.ts`.
  expect([...covered, ...SIGNAL_CRASHES, ...CHILD_CRASHES].sort()).toEqual([...CRASH_POINTS].sort());
});

// Suites side by side, the cases of each one after the other: nearly all of their time is waiting.
for (const half of [0, 1]) {
  describe.concurrent(`two daemons (${half + 1})`, () => {
    const on = stageOfSuite({ daemons: 2 });

    test.each(halfOf(BESIDE_A_SURVIVOR, half))("a death at %s is made good by the other", IN_TURN, async (crashAt) => {
      const { stage, victim } = on();
      const runs = askRuns(stage, idOf("beside", crashAt));
      await revive(victim, crashAt);
      await askUntilDead(runs, victim, crashAt);
      await runs.expectCompleted();
    });

    test.each(halfOf(TAKING_OVER, half))(
      "an heir's death at %s is made good by the daemon it inherits from",
      IN_TURN,
      async (crashAt) => {
        const { stage, victim: heir } = on();
        const [owner] = stage.daemons;
        if (!owner) throw new Error("the stage has no daemon");
        const runs = askRuns(stage, idOf("slow-heir", crashAt));
        await Promise.all([revive(owner), revive(heir, crashAt)]);
        await askUntilOwned(stage, runs, owner);
        await owner.kill();
        await until(`a death at ${crashAt}`, () => !heir.life.isRunning());
        await owner.start();
        await runs.expectCompleted();
      },
    );
  });

  describe.concurrent(`one daemon (${half + 1})`, () => {
    const on = stageOfSuite({ daemons: 1 });

    test.each(halfOf(ALONE, half))("a death at %s is made good by its next life", IN_TURN, async (crashAt) => {
      const { stage, victim } = on();
      const { collector } = stage;
      const runs = askRuns(stage, idOf("alone", crashAt));
      await revive(victim, crashAt);
      if (crashAt.startsWith("spans-waiting")) collector.behave("hang");
      await askUntilDead(runs, victim, crashAt);
      collector.behave("accept");
      await victim.start();
      await runs.expectCompleted();
    });

    test.each(halfOf(TAKING_OVER, half))(
      "a death at %s of a daemon that has just come back is made good by the life after",
      IN_TURN,
      async (crashAt) => {
        const { stage, victim } = on();
        const runs = askRuns(stage, idOf("back", crashAt));
        await revive(victim);
        await runs.ask(RUNS);
        await workBegun(stage, runs);
        await victim.kill();
        await liveUntilDead(victim, crashAt);
        await victim.start();
        await runs.expectCompleted();
      },
    );

    test.each(halfOf(REFUSING, half))(
      "a request that is refused fails once after a death at %s",
      IN_TURN,
      async (crashAt) => {
        const { stage, victim } = on();
        const runs = askRuns(stage, idOf("refused", crashAt));
        await revive(victim, crashAt);
        await runs.ask(["nowhere"]);
        await victim.life.exited;
        await victim.start();
        await runs.expectEnded("failed");
      },
    );

    test.each(halfOf(CANCELLING, half))("a run is cancelled once after a death at %s", IN_TURN, async (crashAt) => {
      const { stage, victim } = on();
      const { nc } = stage.journals;
      const runs = askRuns(stage, idOf("slow", crashAt));
      await revive(victim, crashAt);
      await runs.ask(["diamond"]);
      await workBegun(stage, runs);
      const [runId] = runs.runIds;
      const signal = { v: 1, kind: "cancel", id: `cancel-${runId}`, at: new Date().toISOString() };
      await nc.jetstream().publish(`troupe.signals.${runId}`, JSON.stringify(signal));
      await victim.life.exited;
      await victim.start();
      await runs.expectEnded("cancelled");
    });
  });
}

describe.concurrent("a worker whose run has no living owner", () => {
  test.each(STORING_OUTCOMES)("a death at %s loses nothing that was stored", { timeout: 60_000 }, async (crashAt) => {
    await using stage = await openStage({ ...STAGE, options: { ...STAGE.options, agents: ["solver"] } });
    const { daemon: owner, model } = stage;
    const worker = await stage.join({ workflows: [], options: { agents: ["left"] }, crashAt });
    const runs = askRuns(stage, idOf("slow", crashAt));
    await runs.ask(["single"]);
    await workBegun(stage, runs);
    await owner.kill();
    // It asks for an owner for some seconds before it stores what it has.
    await worker.life.exited;
    await Promise.all([owner.start(), revive(worker)]);
    await runs.expectCompleted();
    expect(model.calls.length).toBe(crashAt.startsWith("after") ? 1 : 2);
  });
});

/** Half of a list, every other one. */
function halfOf(list: readonly string[], half: number): string[] {
  return list.filter((_, i) => i % 2 === half);
}

function idOf(suite: string, crashAt: string): string {
  return `${suite}-${crashAt.replace(":", "-")}`;
}

/** One stage for all cases of a suite; the daemon that dies is the last one. */
function stageOfSuite(options: StageOptions): () => { stage: Stage; victim: DaemonHome } {
  let stage: Stage | undefined;
  beforeAll(async () => {
    stage = await openStage({ ...STAGE, ...options });
  });
  afterAll(async () => {
    await stage?.[Symbol.asyncDispose]();
  });
  return () => {
    const victim = stage?.daemons.at(-1);
    if (!stage || !victim) throw new Error("the suite's stage did not open");
    return { stage, victim };
  };
}

/** A new life, whatever has become of the one before. */
async function revive(home: DaemonHome, crashAt?: string): Promise<void> {
  await home.kill();
  await home.start(crashAt === undefined ? {} : { crashAt });
}

/** Asks for more runs until the daemon has passed the crash point. */
async function askUntilDead(runs: AskedRuns, { life }: DaemonHome, crashAt: string): Promise<void> {
  while (life.isRunning()) {
    if (runs.runIds.length >= MOST_RUNS) throw new Error(`expected a death at ${crashAt} within ${MOST_RUNS} runs`);
    await runs.ask(RUNS);
    // Some places are passed a second after the work.
    await until("an end", () => !life.isRunning() || runs.allTold());
    if (life.isRunning() && crashAt.includes("export-mark")) await Promise.race([life.exited, sleep(3_000)]);
  }
  expect(await life.exited).toEqual({ code: null, signal: "SIGKILL" });
}

/** Asks for more runs until the daemon owns one and is at work on it. */
async function askUntilOwned({ journals, model }: Stage, runs: AskedRuns, { life }: DaemonHome): Promise<void> {
  for (let owned = false; !owned; ) {
    if (runs.runIds.length >= MOST_RUNS) throw new Error(`expected ${life.host} to own one of ${MOST_RUNS} runs`);
    await runs.ask(RUNS);
    const claims = await until("all claims", async () => {
      const events = (await journals.runs()).flatMap(({ value }) => value);
      const mine = events.flatMap((event) =>
        event.type === "run.claimed" && runs.runIds.includes(event.runId) ? [event] : [],
      );
      return mine.length >= runs.runIds.length && mine;
    });
    const mine = new Set(claims.flatMap(({ runId, data }) => (data.incarnation === life.incarnation ? [runId] : [])));
    // One that works for itself: what the heir works for it is not lost with it, and nothing of it is sent again.
    owned = model.open().some(({ runId, pid }) => pid === life.pid && mine.has(runId));
  }
}

/** A life that ends by itself on what it finds, perhaps before it is ready. */
async function liveUntilDead(home: DaemonHome, crashAt: string): Promise<void> {
  const life = await home.start({ crashAt }).catch(() => undefined);
  if (life) await until(`a death at ${crashAt}`, () => !life.isRunning());
}

/** The model is at work for one of the runs. */
async function workBegun({ model }: Stage, { runIds }: AskedRuns): Promise<void> {
  await until("a call in flight", () => model.open().some(({ runId }) => runIds.includes(runId)));
}
