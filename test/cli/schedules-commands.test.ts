import { afterAll, beforeAll, expect, test } from "vitest";
import type { ScheduleListing } from "../../src/runtime/edges/schedule-api.ts";
import { type ServedDir, serveFiles, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";
import { CLI_FILES } from "./cli-files.ts";

let served: ServedDir;

beforeAll(async () => {
  const files = { ...CLI_FILES };
  files["troupe.yaml"] += "schedules:\n  nightly: { workflow: repeat, cron: '0 3 * * *', timezone: Europe/Berlin }\n";
  served = await serveFiles(files);
});
afterAll(async () => {
  await served?.[Symbol.asyncDispose]();
});

const cli = (...args: string[]) => troupe(args, { cwd: served.dir });
const rows = (stdout: string) =>
  stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ {2,}/));

test("schedules are put, listed with their next and last run, paused, resumed and deleted", async () => {
  const put = await cli("schedules", "put", "often", "single", "tea", "--every", "1s", "--overlap", "skip");
  expect(put).toMatchObject({ code: 0, stdout: expect.stringMatching(/^often: next \d{4}-/) });
  const often = await until("it has fired", async () => {
    const { schedules } = JSON.parse((await cli("schedules", "list", "--json")).stdout) as {
      schedules: ScheduleListing[];
    };
    return schedules.find(({ name, last }) => name === "often" && last?.status === "completed");
  });
  expect(often).toMatchObject({ everyMs: 1_000, input: "tea", overlap: "skip", missed: "once", paused: false });
  expect((await cli("runs", "result", often.last?.runId ?? "")).stdout).toBe("echo of tea\n");
  expect(await cli("schedules", "pause", "often")).toMatchObject({ code: 0, stdout: "often: paused\n" });
  const [head, nightly, paused] = rows((await cli("schedules", "list")).stdout);
  expect(head).toEqual(["SCHEDULE", "WORKFLOW", "WHEN", "NEXT", "LAST", "RUN"]);
  expect(nightly?.slice(0, 3)).toEqual(["nightly", "repeat", "0 3 * * * Europe/Berlin"]);
  expect(paused?.slice(0, 4)).toEqual(["often", "single", "every 1.0 s", "paused"]);
  expect(paused?.[5]).toMatch(/^often-\d{8}T\d{6}Z$/);
  expect((await cli("schedules", "resume", "often")).stdout).toMatch(/^often: next /);
  expect(await cli("schedules", "delete", "often")).toMatchObject({ code: 0, stdout: "deleted often\n" });
  expect(rows((await cli("schedules", "list")).stdout)).toHaveLength(2);
});

test("a schedule of the configuration can be paused, and not be put or deleted", async () => {
  expect((await cli("schedules", "pause", "nightly")).stdout).toBe("nightly: paused\n");
  expect((await cli("schedules", "resume", "nightly")).stdout).toMatch(/^nightly: next /);
  const put = await cli("schedules", "put", "nightly", "single", "--every", "1m");
  expect(put).toMatchObject({ code: 1, stderr: expect.stringContaining("in the configuration of a daemon") });
  expect((await cli("schedules", "delete", "nightly")).code).toBe(1);
});

test("a mistake is told, and the exit code says so", async () => {
  const bad = await cli("schedules", "put", "x", "single", "--cron", "0 25 * * *");
  expect(bad).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/schedules\.put: cron: expected a cron expression/),
  });
  expect(await cli("schedules", "pause", "nobody")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("nobody"),
  });
});

test("a run can be put off by a delay or to an instant", async () => {
  const started = Date.now();
  const { stdout } = await cli("run", "single", "tea", "--delay", "2s");
  expect(stdout).toBe("echo of tea\n");
  expect(Date.now() - started).toBeGreaterThan(2_000);
  const runId = (await cli("run", "single", "tea", "--detach", "--at", "2999-01-31T09:00:00Z")).stdout.trim();
  expect(JSON.parse((await cli("runs", "get", runId, "--json")).stdout)).toMatchObject({
    status: "pending",
    notBefore: "2999-01-31T09:00:00Z",
  });
  const both = await cli("run", "single", "tea", "--delay", "2s", "--at", "2999-01-31T09:00:00Z");
  expect(both).toMatchObject({ code: 2, stderr: expect.stringContaining("cannot be used with") });
});

test("what a run logged and took is printed, and a run is watched from wherever it is", async () => {
  const { runId } = JSON.parse((await cli("run", "repeat", "tea", "--json")).stdout) as { runId: string };
  expect(await cli("runs", "logs", runId)).toEqual({ code: 0, stdout: "", stderr: "" });
  const metrics = (await cli("runs", "metrics", runId)).stdout;
  expect(metrics).toMatch(/^used +2 model calls, \d+→\d+ tokens, 0 tool calls$/m);
  expect(metrics).toMatch(/^echo +echo /m);
  expect(JSON.parse((await cli("runs", "metrics", runId, "--json")).stdout)).toMatchObject({ runId, attempts: 2 });
  const watched = await cli("runs", "watch", runId);
  expect(watched.code).toBe(0);
  expect(watched.stdout).toMatch(/completed/);
  const records = (await cli("runs", "watch", runId, "--json")).stdout.trim().split("\n");
  expect(JSON.parse(records.at(-1) ?? "")).toMatchObject({ runId, status: "completed" });
  expect((await cli("runs", "logs", "nobody-knows-it")).code).toBe(1);
});
