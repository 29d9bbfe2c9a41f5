import { afterAll, beforeAll, expect, test } from "vitest";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import type { RunRecord } from "../../src/workflows/run-record.ts";
import { type ServedDir, serveFiles, startTroupe, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";
import { CLI_FILES } from "./cli-files.ts";

let served: ServedDir;

beforeAll(async () => {
  served = await serveFiles(CLI_FILES);
});

afterAll(() => served[Symbol.asyncDispose]());

function run(args: readonly string[], input?: string) {
  return troupe(["run", ...args], { cwd: served.dir, ...(input !== undefined && { input }) });
}

test("run prints the output and nothing else, and finds the daemon of the folder it is started in", async () => {
  expect(await run(["single", "tea"])).toEqual({ code: 0, stdout: "echo of tea\n", stderr: "" });
});

test("run takes its input from a pipe, with or without -", async () => {
  expect((await run(["single"], "piped tea\n")).stdout).toBe("echo of piped tea\n");
  expect((await run(["single", "-"], "more tea")).stdout).toBe("echo of more tea\n");
});

test("run without an input is a mistake in the command", async () => {
  const { code, stdout, stderr } = await run(["single"]);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toBe("troupe: input: expected text or JSON on stdin, got nothing\n");
});

test("an input that is JSON is taken as JSON", async () => {
  const { stdout } = await run(["single", '{"topic": "tea"}', "--json"]);
  expect((JSON.parse(stdout) as RunRecord).input).toEqual({ topic: "tea" });
});

test("--json prints the finished run and what it was started with", async () => {
  const flags = [
    "--session-id",
    "s1",
    "--user-id",
    "u1",
    "--metadata",
    "a=1",
    "--metadata",
    "b=x=y",
    "--timeout",
    "30s",
  ];
  const { code, stdout } = await run(["repeat", "tea", "--json", ...flags]);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    workflow: "repeat",
    status: "completed",
    sessionId: "s1",
    userId: "u1",
    metadata: { a: "1", b: "x=y" },
    steps: [{ id: "echo" }, { id: "loud" }],
  });
});

test("--watch tells the run line by line, then its output", async () => {
  const { code, stdout } = await run(["phone", "ring", "--watch"]);
  expect(code).toBe(0);
  const words = stdout.split("\n").map((line) => line.replace(/^[\d:.]{12} {2}/, "").replaceAll(/ {2,}/g, " "));
  expect(words[0]).toMatch(/^run \w+$/);
  expect(words.slice(1, 4)).toEqual([
    'accepted phone: "ring"',
    "started first",
    expect.stringMatching(/^handoff first → echo: a call/),
  ]);
  expect(words.slice(4)).toEqual([
    "started echo",
    expect.stringMatching(/^answered echo: "echo of ring" \d+→\d+ tokens$/),
    expect.stringMatching(/^completed in .* m?s, 2 model calls, \d+→\d+ tokens$/),
    "",
    "echo of ring",
    "",
  ]);
});

test("--watch --json prints every event as a line of JSON, to the last", async () => {
  const { code, stdout } = await run(["single", "tea", "--watch", "--json"]);
  const events = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as RunEvent);
  expect(code).toBe(0);
  expect(events.at(0)?.type).toBe("run.accepted");
  expect(events.at(-1)).toMatchObject({ type: "run.completed", data: { output: "echo of tea" } });
});

test("a run that fails says why on stderr and ends with 1, whichever way it is watched", async () => {
  const plain = await run(["broken", "tea"]);
  expect({ code: plain.code, stdout: plain.stdout }).toEqual({ code: 1, stdout: "" });
  expect(plain.stderr).toMatch(/^troupe: run \w+ failed: .*the model does not want to\n$/);
  const json = await run(["broken", "tea", "--json"]);
  expect(json).toMatchObject({ code: 1, stderr: "" });
  expect(JSON.parse(json.stdout)).toMatchObject({
    status: "failed",
    steps: [{ output: "echo of tea" }, { status: "failed" }],
  });
  expect((await run(["broken", "tea", "--watch"])).code).toBe(1);
});

test("a workflow that nobody has is one clear line", async () => {
  expect(await run(["nope", "tea"])).toEqual({
    code: 1,
    stdout: "",
    stderr: 'troupe: no living daemon has a workflow "nope"\n',
  });
});

test("a flag that does not fit is a mistake in the command", async () => {
  for (const flags of [["--timeout", "soon"], ["--metadata", "x"], ["--nonsense"], ["--not-before", "tomorrow"]]) {
    const { code, stderr } = await run(["single", "tea", ...flags]);
    expect({ flags, code, stderr }).toEqual({ flags, code: 2, stderr: expect.stringMatching(/./) });
  }
});

test("the same run id twice is one run", async () => {
  await run(["single", "tea", "--run-id", "once"]);
  const again = await run(["single", "coffee", "--run-id", "once"]);
  expect(again).toMatchObject({ code: 0, stdout: "echo of tea\n" });
});

test("Ctrl-C leaves the run alone and says how to go on", async () => {
  const watching = startTroupe(["run", "wait", "tea", "--run-id", "patient", "--watch"], { cwd: served.dir });
  await until("the run is under way", () => watching.out.stdout.includes("started"));
  watching.child.kill("SIGINT");
  const { code, stderr } = await watching.ended;
  expect(code).toBe(130);
  expect(stderr).toContain("troupe events patient");
  const { stdout } = await troupe(["runs", "get", "patient", "--json"], { cwd: served.dir });
  expect((JSON.parse(stdout) as RunRecord).status).toBe("running");
  await troupe(["runs", "cancel", "patient"], { cwd: served.dir });
});
