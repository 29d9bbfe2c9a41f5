import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { startOpenAIServer } from "../helpers/openai-server.ts";
import { startTestReceiver } from "../helpers/otlp-receiver.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";

const demo = fileURLToPath(new URL("../../scripts/demo.ts", import.meta.url));

type Env = { [name: string]: string };

/** Starts the demo without a terminal; nothing set for other daemons of this machine reaches it. */
function start(env: Env) {
  const foreign = /^(OTEL_|NATS_|OPENAI_|FORCE_COLOR)/;
  const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)));
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", demo], {
    env: { ...own, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const out = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out.stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    out.stderr += text;
  });
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, ...out }));
  return { child, out, ended };
}

/** The processes the demo said it started. */
function processes(stdout: string): number[] {
  return [...stdout.matchAll(/process (\d+)/g)].map(([, pid]) => Number(pid));
}

function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}

test("the demo runs both kinds of workflow, shows their traces, and leaves nothing behind", async () => {
  await using receiver = await startTestReceiver();
  const { code, stdout, stderr } = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint }).ended;
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toContain("scripted: OPENAI_API_KEY is not set");
  expect(stdout).toMatch(/accepted +article.*started +researcher.*started +writer.*started +editor.*completed/s);
  expect(stdout).toMatch(/handoff +triage → billing.*tool +billing: lookup_invoice.*completed/s);
  expect(stdout).toContain("[scripted] # The history of tea");
  expect(stdout).toMatch(/run support +0 ms\n├─ invoke_agent triage +\d+ ms/);

  const runIds = [...stdout.matchAll(/ as (demo-\S+)/g)].map(([, id]) => id ?? "");
  expect(runIds).toHaveLength(2);
  expect(checkTraces(receiver.spans, { runIds })).toEqual([]);
  const links = [...stdout.matchAll(/http:\/\/127.0.0.1:16686\/trace\/(\w+)/g)].map(([, id]) => id);
  expect(new Set(links)).toEqual(new Set(receiver.spans.map(({ traceId }) => traceId)));
  expect(processes(stdout)).toHaveLength(2);
  expect(processes(stdout).every(isGone)).toBe(true);
});

test("without a collector the demo says how to get one", async () => {
  const { code, stdout } = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1" }).ended;
  expect(code).toBe(0);
  expect(stdout).toContain("No OTLP endpoint answers at http://127.0.0.1:1/v1/traces");
  expect(stdout).toContain("docker run");
});

test("with a key the demo asks the model, and a run that fails ends it with 1, the daemon's last lines, and nothing left", async () => {
  await using model = await startOpenAIServer({ reply: { status: 401, error: { message: "bad key" } } });
  const { code, stdout, stderr } = await start({ OPENAI_API_KEY: "wrong", OPENAI_BASE_URL: model.url }).ended;
  expect(code).toBe(1);
  expect(stdout).toContain(`OpenAI at ${model.url}`);
  expect(stderr).toMatch(/^demo: article failed: .*bad key/m);
  expect(stderr).toContain('"msg":"ready"');
  expect(processes(stdout).every(isGone)).toBe(true);
});

test("Ctrl-C in the middle of the demo leaves nothing behind", async () => {
  const { child, out, ended } = start({});
  await until("a run is under way", () => out.stdout.includes("started"));
  child.kill("SIGINT");
  expect((await ended).code).toBe(130);
  expect(processes(out.stdout)).toHaveLength(2);
  expect(processes(out.stdout).every(isGone)).toBe(true);
});
