/**
 * The soak: daemons and a broker under a storm, users who go on asking, and an oracle that watches from outside. Everything
 * that is left to chance comes from the seed; when things happen does not.
 */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectNats, type NatsConnection } from "nats";
import { type CleanUp, withCleanUp } from "../bench/clean-up.ts";
import type { TaskEntry } from "../src/actors/task.ts";
import { connect } from "../src/runtime/edges/client.ts";
import { startOtlpReceiver } from "../src/tracing/otlp-receiver.ts";
import type { RunEvent } from "../src/workflows/run-events.ts";
import { startTestNats } from "../test/helpers/nats-server.ts";
import { makeDaemon } from "./daemon-process.ts";
import { openDossier } from "./dossier.ts";
import { type Figures, noFigures } from "./figures.ts";
import { followJournals } from "./follow-journals.ts";
import { openLedger } from "./ledger.ts";
import { RESULTS, startLoad } from "./load.ts";
import { startModelServer } from "./model-server.ts";
import type { Loss } from "./recovery.ts";
import { lineOf } from "./report.ts";
import { startStorm } from "./storm.ts";
import { watchTraces } from "./traces.ts";
import type { ToldResult } from "./tracked-run.ts";
import { openWholeValues } from "./whole-values.ts";

export type SoakOptions = {
  minutes: number;
  seed: number;
  daemons: number;
  /** Requests in a second, on average. */
  rate: number;
  /** Ends the soak early. */
  signal: AbortSignal;
  say(line: string): void;
};

export type SoakResult = { figures: Figures; problems: readonly string[]; requests: number; seconds: number };

/** How a daemon's log says that the owner of a run, or the worker of a task, found another one in its place. */
const FENCED = /"msg":"(fenced: |abandoned: .*another writer)/;
const MAX_GOING_ON = 60;
/** Fewer than go on at most, so that with a daemon away requests wait at the door. */
const MAX_RUNS = 26;
const LINE_EVERY_S = 10;
/** Whatever goes on when the storm is over has this long to end; the longest plan takes some 20 s. */
const CALM_S = 120;
/** More than that are not looked for. */
const MAX_PROBLEMS = 50;

/** Runs a soak from beginning to end. */
export function soak(options: SoakOptions): Promise<SoakResult> {
  return withCleanUp((cleanUp) => soakWith(options, cleanUp));
}

async function soakWith(options: SoakOptions, { after }: CleanUp): Promise<SoakResult> {
  const { minutes, seed, say, signal } = options;
  const figures = noFigures();
  const losses: Loss[] = [];
  const dossier = openDossier(await mkdtemp(join(tmpdir(), `troupe-soak-${seed}-problems-`)), say);
  const nats = after(await startTestNats(), (server) => server[Symbol.asyncDispose]());
  const nc = after(await connectPatiently(nats.url), (connection) => connection.close());
  const traces = watchTraces(figures, dossier.problem);
  const ledger = openLedger({ figures, losses, onProblem: dossier.problem, onChecked: (runId) => checked(runId) });
  const model = after(
    await startModelServer({ ...ledger, onCall: ledger.call, onTool: ledger.tool, onProblem: dossier.problem }),
    (server) => server.stop(),
  );
  const collector = after(
    await startOtlpReceiver({ keep: false, onSpans: (spans) => traces.take(spans) }),
    (receiver) => receiver.stop(),
  );
  const daemons = await Promise.all(
    Array.from({ length: options.daemons }, (_, i) =>
      makeDaemon(
        `daemon-${i + 1}`,
        { modelUrl: model.url, toolUrl: model.toolUrl, otlpUrl: collector.url, options: daemonOptions(nats.url) },
        {
          died: (name, how, lines) => dossier.problem(`${name} ended by itself ${how}:\n${lines.join("\n")}`),
          line(line) {
            if (FENCED.test(line)) figures.fenced += 1;
          },
        },
      ),
    ),
  );
  for (const daemon of daemons) after(daemon, (one) => one.dispose());
  dossier.witnesses(daemons);
  await Promise.all(daemons.map((daemon) => daemon.start()));

  const whole = openWholeValues(nc, dossier.problem);
  listen(nc, (result) => void whole(result).then((told) => ledger.told(told)));
  const following = { whole, onProblem: dossier.problem };
  const followers = [
    followJournals<RunEvent[]>(nc, { ...following, stream: "TROUPE_RUNS", take: ledger.runEntry }),
    followJournals<TaskEntry>(nc, { ...following, stream: "TROUPE_TASKS", take: ledger.taskEntry }),
  ];
  for (const follower of followers) after(follower, (one) => one.stop());
  const client = after(await connect({ servers: nats.url, waitForBroker: true }), (one) => one.close());

  const begun = performance.now();
  const seconds = () => Math.round((performance.now() - begun) / 1_000);
  const load = startLoad({
    ...options,
    nc,
    client,
    ledger,
    figures,
    maxGoingOn: MAX_GOING_ON,
    onProblem: dossier.problem,
  });
  const storm = startStorm({
    seed,
    daemons,
    nats,
    figures,
    losses,
    inFlightOf: (pid) => model.openOf(pid),
    onProblem: dossier.problem,
  });
  const isDone = () => signal.aborted || dossier.problems.length >= MAX_PROBLEMS;

  await everySecond(() => seconds() >= minutes * 60 || isDone());
  say("the storm is over; what goes on has to end");
  await load.stop();
  await storm.calm();
  const calmAt = seconds();
  await everySecond(() => ledger.unchecked() === 0 || seconds() > calmAt + CALM_S || isDone());
  // Of what was not waited for nothing can be said.
  if (signal.aborted) return result();
  if (ledger.unchecked() > 0) dossier.problem(`${ledger.unchecked()} runs were not over ${CALM_S} s after the storm`);
  await traces.finish();
  return result();

  function result(): SoakResult {
    return { figures, problems: dossier.problems, requests: load.count, seconds: seconds() };
  }

  function checked(runId: string): void {
    model.forget(runId);
    traces.runEnded(runId);
  }

  async function everySecond(isOver: () => boolean): Promise<void> {
    for (let tick = 1; !isOver(); tick += 1) {
      await sleep(1_000);
      ledger.tick(storm.isWhole());
      traces.tick();
      if (tick % LINE_EVERY_S === 0)
        say(lineOf(figures, { seconds: seconds(), ledger, problems: dossier.problems.length }));
    }
  }
}

function daemonOptions(nats: string): { [key: string]: unknown } {
  // Requests in a killed daemon's hands come back sooner than by default, and drains do not outlast the storm.
  return { nats: [nats], maxRuns: MAX_RUNS, ackWaitMs: 3_000, drainTimeoutMs: 3_000, cancelGraceMs: 4_000 };
}

function connectPatiently(servers: string): Promise<NatsConnection> {
  return connectNats({ servers, maxReconnectAttempts: -1, reconnectTimeWait: 100, waitOnFirstConnect: true });
}

function listen(nc: NatsConnection, told: (result: ToldResult) => void): void {
  nc.subscribe(`${RESULTS}.>`, { callback: (error, message) => error ?? told(message.json<ToldResult>()) });
}
