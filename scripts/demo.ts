/**
 * `npm run demo`: nats-server and the daemon as processes of their own, two requests published onto NATS by a client that
 * knows nothing but the subjects, and what comes of them: events, results, traces.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { runTeller } from "../src/cli/run-lines.ts";
import { bold, cyan, dim, green, yellow } from "../src/cli/style.ts";
import { duration } from "../src/cli/words.ts";
import { startNatsServer } from "../src/runtime/nats/server.ts";
import { type OtlpReceiver, startOtlpReceiver } from "../src/tracing/otlp-receiver.ts";
import { renderSpanTree } from "../src/tracing/span-tree.ts";
import { type DaemonProcess, startDaemonProcess } from "./demo/daemon-process.ts";
import { connectOutside, type OutsideClient } from "./demo/outside-client.ts";
import { openPassOn, type PassOn } from "./demo/pass-on-traces.ts";

const REQUESTS = [
  { workflow: "article", about: "three agents, one after the other (deterministic)", input: "the history of tea" },
  { workflow: "support", about: "the agents decide who goes on (handoff)", input: "I was charged twice for INV-1002" },
];

const READY_WITHIN_MS = 30_000;
/** Models take their time; the script takes less than a second. */
const RUN_WITHIN_MS = process.env.OPENAI_API_KEY ? 300_000 : 30_000;
const JAEGER = "docker run --rm -p 16686:16686 -p 4318:4318 jaegertracing/jaeger:2.20.0";

/** What is to be undone, newest last. */
const cleanUps: (() => Promise<unknown>)[] = [];
let daemon: DaemonProcess | undefined;

let interrupted = false;

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => {
    interrupted = true;
    void cleanUp().finally(() => process.exit(128 + constants.signals[signal]));
  });
}

try {
  await demonstrate();
  await cleanUp();
  say(`\n${green("Everything worked")}, and everything is stopped.`);
} catch (error) {
  // What is taken down under the demo fails in it; that is no news.
  if (!interrupted) await fail(error);
}
// A socket that lingers must not keep a demo that is over.
if (!interrupted) setTimeout(() => process.exit(), 1_000).unref();

async function fail(error: unknown): Promise<void> {
  process.exitCode = 1;
  console.error(`\ndemo: ${error instanceof Error ? error.message : String(error)}`);
  const lines = daemon?.lastLines() ?? [];
  if (lines.length > 0) console.error(`demo: the daemon's last lines:\n${lines.map((line) => `  ${line}`).join("\n")}`);
  await cleanUp();
}

async function demonstrate(): Promise<void> {
  const passOn = await openPassOn();
  const receiver = await startOtlpReceiver({ onRequest: (request) => passOn.take(request) });
  cleanUps.push(() => receiver.stop());
  const running = await start(receiver);
  const client = await connectOutside(running.natsUrl);
  cleanUps.push(() => client.close());

  const traces: { workflow: string; traceId: string }[] = [];
  for (const request of REQUESTS) {
    const traceId = await within(
      RUN_WITHIN_MS,
      `a result of ${request.workflow}`,
      running.daemon,
      run(client, request),
    );
    traces.push({ workflow: request.workflow, traceId });
  }

  // A daemon that is drained has sent every span.
  const code = await running.daemon.stop();
  if (code !== 0) throw new Error(`the daemon: expected exit code 0 after SIGTERM, got ${code}`);
  for (const { workflow, traceId } of traces) tellTrace(workflow, traceId, receiver);
  await tellWhereTracesAre(passOn, traces);
}

async function start({ endpoint }: OtlpReceiver): Promise<{ natsUrl: string; daemon: DaemonProcess }> {
  const dir = await mkdtemp(join(tmpdir(), "troupe-demo-"));
  cleanUps.push(() => rm(dir, { recursive: true, force: true }));
  const nats = await startNatsServer({ storeDir: join(dir, "nats") });
  cleanUps.push(() => nats.stop());
  tellFact("nats-server", `${nats.version} at ${nats.url}, process ${nats.pid}`);

  const since = performance.now();
  const started = startDaemonProcess({ natsUrl: nats.url, data: join(dir, "daemon"), otlpEndpoint: endpoint });
  daemon = started;
  cleanUps.push(() => started.stop());
  await within(READY_WITHIN_MS, "the daemon to be ready", started, started.ready);
  tellFact("daemon", `process ${started.pid}, ready after ${duration(performance.now() - since)}`);
  const { OPENAI_API_KEY: key, OPENAI_BASE_URL: url } = process.env;
  tellFact(
    "model",
    key ? `OpenAI${url ? ` at ${url}` : ""}` : yellow("scripted: OPENAI_API_KEY is not set, no model is called"),
  );
  return { natsUrl: nats.url, daemon: started };
}

/** Gives the id of the run's trace. */
async function run(client: OutsideClient, { workflow, about, input }: (typeof REQUESTS)[number]): Promise<string> {
  tellHeading(`${workflow}: ${about}`);
  const tell = runTeller();
  const { result, traceId } = await client.request(workflow, input, {
    published: ({ subject, body, runId }) => {
      say(`published on ${bold(subject)} as ${runId}\n${dim(body)}\n`);
    },
    event: (event) => {
      const line = tell(event);
      if (line) say(line);
    },
  });
  if (result.status !== "completed") throw new Error(`${workflow} ${result.status}: ${result.error.message}`);
  const output = typeof result.output === "string" ? result.output : JSON.stringify(result.output, null, 2);
  say(`\n${bold("result")}, as it came to replyTo:\n${output.replaceAll(/^(?=.)/gm, "  ")}`);
  return traceId;
}

function tellTrace(workflow: string, traceId: string, { spans }: OtlpReceiver): void {
  tellHeading(`the trace of ${workflow}: ${traceId}`);
  const own = spans.filter((span) => span.traceId === traceId);
  if (own.length === 0) throw new Error(`the trace of ${workflow}: expected spans of ${traceId}, got none`);
  say(renderSpanTree(own));
}

async function tellWhereTracesAre(passOn: PassOn, traces: { workflow: string; traceId: string }[]): Promise<void> {
  tellHeading("where the traces are");
  const refused = await passOn.settled();
  if (passOn.answers && refused === undefined) {
    say(`They were sent to ${passOn.endpoint} as well. In Jaeger:`);
    for (const { workflow, traceId } of traces) say(`  ${workflow.padEnd(8)} ${cyan(passOn.linkTo(traceId))}`);
    return;
  }
  const why = refused === undefined ? "No OTLP endpoint answers" : `The OTLP endpoint refused them (${refused})`;
  say(`${why} at ${passOn.endpoint}, so they are only above. To see them in Jaeger, start it and run the demo again:`);
  say(`  ${cyan(JAEGER)}`);
}

async function within<T>(ms: number, what: string, { ended }: DaemonProcess, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`expected ${what} within ${duration(ms)}`)), ms);
  });
  try {
    return await Promise.race([work, ended, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function cleanUp(): Promise<void> {
  for (let undo = cleanUps.pop(); undo; undo = cleanUps.pop()) {
    await undo().catch((error: unknown) => console.error(`demo: while stopping: ${String(error)}`));
  }
}

function tellHeading(text: string): void {
  say(`\n${bold(`── ${text} `)}${dim("─".repeat(Math.max(3, 76 - text.length)))}\n`);
}

function tellFact(name: string, fact: string): void {
  say(`${dim(name.padEnd(12))} ${fact}`);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
