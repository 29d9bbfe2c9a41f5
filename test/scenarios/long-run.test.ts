import { expect, test } from "vitest";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { expectWithin } from "../helpers/measured-bound.ts";
import { LONG_STEPS } from "../helpers/numbered-fleet.ts";
import type { NumberedAnswer } from "../helpers/numbered-model-server.ts";
import type { RawJournals } from "../helpers/raw-journals.ts";
import { problemsOfJournal } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { requestRuns } from "../helpers/start-runs.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";

const RUN = "run-1";
const { long: STEPS = 0, marathon: MARATHON_STEPS = 0 } = LONG_STEPS;
const PATIENT = { timeout: 300_000 };

test(
  `a run of ${MARATHON_STEPS} steps whose daemon is killed near its end goes on within two seconds`,
  PATIENT,
  async () => {
    await using stage = await openStage({
      traced: true,
      workflows: ["marathon"],
      logLevel: "info",
      // Quick up to where it matters, then slow enough to be met at work.
      model: { delayMs: (_ask, n) => (n < MARATHON_STEPS - 300 ? 0 : 20) },
    });
    const { daemon, journals, collector } = stage;
    const startedAt = Date.now();
    await requestRuns(journals, [RUN], ["marathon"]);
    await entriesStored(journals, MARATHON_STEPS - 200);
    const heir = await stage.join();
    await entriesStored(journals, MARATHON_STEPS - 100);
    const tookMs = Date.now() - startedAt;
    await daemon.kill();
    await snapshotBehind(journals);
    await until("the end of the run", async () => (await lastEntry(journals)).at(-1)?.type === "run.completed", {
      withinMs: 60_000,
    });

    const entries = await journals.runs();
    expect(problemsOfJournal(RUN, entries)).toEqual([]);
    expect(
      problemsOfAnswers(
        entries.flatMap(({ value }) => value),
        MARATHON_STEPS,
      ),
    ).toEqual([]);
    const takenAt = takeoverBegan(await heir.log());
    const next = entries.find(({ at, value }) => at > takenAt && value.some(({ type }) => type === "task.sent"));
    const { folded, after } = takenOver(await heir.log());
    const thousand = (from: number) => Math.round((entries[from + 1_000]?.at ?? 0) - (entries[from]?.at ?? 0));
    console.log(
      `${MARATHON_STEPS - 100} steps in ${tookMs} ms, the first thousand in ${thousand(0)} ms, the last but one in ${thousand(MARATHON_STEPS - 2_000)} ms; taken over after event ${after}, ${folded} events folded on from there`,
    );
    expect(folded).toBeLessThan(2_000);
    expectWithin(2_000, "from the takeover's start the next task was sent", (next?.at ?? Number.NaN) - takenAt);
    await until("whole traces", () => checkTraces(collector.spans, { runIds: [RUN] }).length === 0, {
      withinMs: 60_000,
    }).catch(() => {});
    expect(checkTraces(collector.spans, { runIds: [RUN] }).slice(0, 5)).toEqual([]);
  },
);

test.each(["before-snapshot", "after-snapshot", "before-snapshot:2", "after-snapshot:2"])(
  "a long run whose daemon dies at %s goes on in the next life, and its trace is whole",
  PATIENT,
  async (crashAt) => {
    await using stage = await openStage({ traced: true, workflows: ["long"], model: { delayMs: () => 0 } });
    const { daemon, journals, collector } = stage;
    await daemon.kill();
    await daemon.start({ crashAt });
    // Nothing is exported in this life: all spans have to be made again, also those of entries before a snapshot.
    collector.behave("hang");
    await requestRuns(journals, [RUN], ["long"]);
    await until(`a death at ${crashAt}`, () => !daemon.life.isRunning(), { withinMs: 60_000 });
    collector.behave("accept");
    await daemon.start();
    await until("the end of the run", async () => (await lastEntry(journals)).at(-1)?.type === "run.completed", {
      withinMs: 60_000,
    });
    const entries = await journals.runs();
    expect(problemsOfJournal(RUN, entries)).toEqual([]);
    expect(
      problemsOfAnswers(
        entries.flatMap(({ value }) => value),
        STEPS,
      ),
    ).toEqual([]);
    const { after } = takenOver(await daemon.log());
    expect(after !== undefined).toBe(crashAt !== "before-snapshot");
    const tasks = () => new Set(collector.spans.map(({ attributes }) => attributes["troupe.task.id"]).filter(Boolean));
    await until("a span of every task", () => tasks().size === STEPS, { withinMs: 30_000 });
    await until("a whole trace", () => checkTraces(collector.spans, { runIds: [RUN] }).length === 0);
  },
);

/** Each step has one entry in the journal. */
async function entriesStored({ nc }: RawJournals, count: number): Promise<void> {
  const jsm = await nc.jetstreamManager();
  const stored = async () => (await jsm.streams.info("TROUPE_RUNS")).state.messages;
  await until(`${count} entries`, async () => (await stored()) >= count, { withinMs: 240_000 });
}

async function lastEntry({ nc }: RawJournals): Promise<RunEvent[]> {
  const jsm = await nc.jetstreamManager();
  const { data } = await jsm.streams.getMessage("TROUPE_RUNS", { last_by_subj: `troupe.runs.${RUN}` });
  return JSON.parse(Buffer.from(data).toString("utf8")) as RunEvent[];
}

/** There is one snapshot. */
async function snapshotBehind({ nc }: RawJournals): Promise<void> {
  const jsm = await nc.jetstreamManager();
  expect((await jsm.streams.info("TROUPE_SNAPSHOTS")).state.messages).toBe(1);
}

/** Every step saw the answer of the one before, and no other. */
function problemsOfAnswers(events: readonly RunEvent[], steps: number): string[] {
  const answers = events.flatMap((event) =>
    event.type === "task.settled" && event.data.outcome.type === "completed"
      ? [JSON.parse(String(event.data.outcome.output)) as NumberedAnswer]
      : [],
  );
  const problems = answers.flatMap(({ n, saw }, i) => {
    const before = answers[i - 1]?.n;
    const expected = before === undefined ? [] : [before];
    return JSON.stringify(saw) === JSON.stringify(expected) ? [] : [`answer ${n} saw ${saw}, expected ${expected}`];
  });
  if (answers.length !== steps) problems.push(`expected ${steps} answers, got ${answers.length}`);
  return problems;
}

type Line = { time: number; msg: string; folded?: number; after?: number };

function linesOf(log: string): Line[] {
  return log.split("\n").flatMap((line) => (line.startsWith("{") ? [JSON.parse(line) as Line] : []));
}

function takeoverBegan(log: string): number {
  return linesOf(log).find(({ msg }) => msg === "taking over runs")?.time ?? Number.NaN;
}

function takenOver(log: string): { folded: number; after: number | undefined } {
  const line = linesOf(log).find(({ msg }) => msg === "run taken over");
  return { folded: line?.folded ?? Number.NaN, after: line?.after };
}
