import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { casesOf, nameOf } from "../../bench/cases.ts";
import { readFlags } from "../../bench/flags.ts";
import { type Effort, measure } from "../../bench/measure.ts";

const root = join(import.meta.dirname, "../..");
const BRIEF: Effort = { seconds: 0.5, warmUpSeconds: 0.2, single: 3, inFlight: 4, profile: false };

test("without restrictions the usual cases are measured, each condition at least once", () => {
  const usual = casesOf({});
  expect(new Set(usual.map(nameOf)).size).toBe(usual.length);
  expect(new Set(usual.map(({ work }) => work))).toEqual(new Set(["W1", "W2", "W3"]));
  expect(new Set(usual.map(({ model }) => model))).toEqual(new Set(["lean", "openai"]));
  expect(new Set(usual.map(({ telemetry }) => telemetry))).toEqual(new Set([true, false]));
  expect(new Set(usual.map(({ daemons }) => daemons))).toEqual(new Set([1, 2]));
});

test("--all measures every combination, restricted by what else is said", () => {
  expect(casesOf({ all: true })).toHaveLength(24);
  expect(casesOf({ all: true, work: "W2", telemetry: false })).toHaveLength(4);
  expect(casesOf({ work: "W3", daemons: 3 })).toEqual([{ work: "W3", model: "lean", telemetry: true, daemons: 3 }]);
});

test("a flag that does not fit is refused with what was expected", () => {
  expect(() => readFlags(["--work", "W4"])).toThrow('--work: expected one of W1, W2, W3, got "W4"');
  expect(() => readFlags(["--seconds", "soon"])).toThrow('--seconds: expected a number from 0.1, got "soon"');
  expect(() => readFlags(["--fast"])).toThrow("--fast");
});

test("a handoff work on two daemons is measured with all its spans at the collector", async () => {
  const measured = await measure({ work: "W2", model: "lean", telemetry: true, daemons: 2 }, BRIEF);
  expect(measured.runsPerSecond).toBeGreaterThan(0);
  expect(measured.floorRunsPerSecond).toBeGreaterThan(0);
  expect(measured.ofFloor).toBeCloseTo(measured.runsPerSecond / measured.floorRunsPerSecond);
  expect(measured.p99Ms).toBeGreaterThanOrEqual(measured.p50Ms);
  expect(measured.cpuMsPerRun.daemons).toBeGreaterThan(0);
  expect(measured.storedPerRun.messages).toBeGreaterThanOrEqual(3);
  expect(measured.storedPerRun.bytes).toBeGreaterThan(500);
  expect(measured.peakMb).toBeGreaterThan(20);
  // The run and its workflow, and for each of the three agents its invocation and its model call.
  expect(measured.spansPerRun).toBeGreaterThanOrEqual(8);
});

test("a work with parallel agents is measured through the openai client, without telemetry", async () => {
  const measured = await measure({ work: "W3", model: "openai", telemetry: false, daemons: 1 }, BRIEF);
  expect(measured.runsPerSecond).toBeGreaterThan(0);
  expect(measured.spansPerRun).toBeUndefined();
});

test("the command prints the table and the profile, and writes both as files", async () => {
  const dir = await mkdtemp(join(tmpdir(), "troupe-bench-test-"));
  try {
    const json = join(dir, "bench.json");
    const effort = ["--seconds", "0.5", "--warm-up", "0.2", "--single", "3", "--in-flight", "4"];
    const { code, stdout, stderr } = await runBench([...effort, "--work", "W1", "--profile", "--json", json]);
    expect(stderr).toBe("1/1 W1 lean, telemetry on, 1 daemon\n");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^case +p50 ms .* runs\/s +floor/m);
    expect(stdout).toMatch(/^W1 lean, telemetry on, 1 daemon +\d/m);
    expect(stdout).toMatch(/us\/run {2}xstate$/m);
    const { results } = JSON.parse(await readFile(json, "utf8"));
    expect(results).toMatchObject([{ work: "W1", storedPerRun: { messages: expect.any(Number) } }]);
    expect(JSON.parse(await readFile(`${json}.W1.cpuprofile`, "utf8")).samples.length).toBeGreaterThan(0);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

test("the command exits with 2 and the usage when a flag is wrong", async () => {
  const { code, stderr } = await runBench(["--model", "clever"]);
  expect(code).toBe(2);
  expect(stderr).toContain('--model: expected one of lean, openai, got "clever"');
  expect(stderr).toContain("usage: npm run bench");
});

async function runBench(args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const flags = ["--disable-warning=ExperimentalWarning", "--conditions=troupe-source"];
  const child = spawn(process.execPath, [...flags, join(root, "bench/run.ts"), ...args], { cwd: root });
  const told = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      told[name] += text;
    });
  }
  const [code] = await once(child, "close");
  return { code, ...told };
}
