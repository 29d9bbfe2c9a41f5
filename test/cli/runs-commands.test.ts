import { afterAll, beforeAll, expect, test } from "vitest";
import type { AgentListing } from "../../src/runtime/edges/api.ts";
import type { RunPage } from "../../src/runtime/hosts/run-list.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { type ServedDir, serveFiles, startTroupe, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";
import { CLI_FILES } from "./cli-files.ts";

let served: ServedDir;

beforeAll(async () => {
  served = await serveFiles(CLI_FILES);
  await cli("run", "repeat", "tea", "--run-id", "done");
  await cli("run", "broken", "tea", "--run-id", "failed");
});

afterAll(() => served[Symbol.asyncDispose]());

const cli = (...args: string[]) => troupe(args, { cwd: served.dir });

/** Cells of a table, row by row. */
function cells(table: string): string[][] {
  return table
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ {2,}/));
}

test("runs list is a table, newest first, and filters", async () => {
  const all = cells((await cli("runs", "list")).stdout);
  expect(all[0]).toEqual(["RUN", "WORKFLOW", "STATUS", "CREATED", "TOOK"]);
  expect(all.slice(1).map(([id, workflow, status]) => [id, workflow, status])).toEqual([
    ["failed", "broken", "failed"],
    ["done", "repeat", "completed"],
  ]);
  const page = JSON.parse((await cli("runs", "list", "--status", "failed", "--json")).stdout) as RunPage;
  expect(page.runs.map(({ runId }) => runId)).toEqual(["failed"]);
  expect((await cli("runs", "list", "--workflow", "wait")).stdout).toBe("No runs.\n");
  expect(await cli("runs", "list", "--status", "odd")).toMatchObject({ code: 2, stdout: "" });
});

test("runs list goes on from a cursor", async () => {
  const first = await cli("runs", "list", "--limit", "1");
  const cursor = /--cursor (\S+)/.exec(first.stdout)?.[1] ?? "";
  expect(cells((await cli("runs", "list", "--limit", "1", "--cursor", cursor)).stdout)[1]?.[0]).toBe("done");
});

test("runs get shows steps, outputs and errors, and drives no terminal", async () => {
  const { stdout } = await cli("runs", "get", "done");
  expect(stdout).toMatch(/workflow {2}repeat \(deterministic, version 1\)/);
  expect(stdout).toMatch(/echo {2}echo {3}completed {2}.*echo of tea/);
  expect(stdout).not.toContain("\u001b");
  const failed = (await cli("runs", "get", "failed")).stdout;
  expect(failed).toMatch(/wrong {2}wrong {2}failed .*the model does not want to/);
});

test("runs result prints the output of a run that completed, and fails for one that failed", async () => {
  expect((await cli("runs", "result", "done")).stdout).toBe(`${JSON.stringify({ loud: "\u001b[31mYES" })}\n`);
  expect(await cli("runs", "result", "failed")).toMatchObject({ code: 1, stdout: "" });
});

test("runs transcript retells a run, as text and in JSON", async () => {
  const { stdout } = await cli("run", "phone", "tea", "--run-id", "told");
  const told = await cli("runs", "transcript", "told");
  expect(told).toMatchObject({ code: 0, stderr: "" });
  expect(told.stdout).toMatch(/^phone: tea\n\nfirst\n {2}hands over to echo: a call\n\necho\n {2}says: echo of /);
  expect(told.stdout).toContain(`\n\ncompleted: ${stdout.trim()}`);
  const json = await cli("runs", "transcript", "told", "--json");
  expect(JSON.parse(json.stdout)).toEqual({ runId: "told", transcript: told.stdout.trimEnd() });
  expect(await cli("runs", "transcript", "nobody")).toMatchObject({ code: 1 });
});

test("runs journal has every event", async () => {
  const { stdout } = await cli("runs", "journal", "done", "--json");
  const events = JSON.parse(stdout) as RunEvent[];
  expect(events.map(({ n }) => n)).toEqual(events.map((_, index) => index + 1));
  expect((await cli("runs", "journal", "done")).stdout.trimEnd().split("\n")).toHaveLength(events.length);
});

test("a run that nobody knows is one clear line", async () => {
  const unknown = { code: 1, stdout: "", stderr: 'troupe: no run "nix"\n' };
  for (const command of ["get", "result", "journal", "cancel"])
    expect(await cli("runs", command, "nix")).toEqual(unknown);
});

test("a run goes on after --detach, is not finished, and is cancelled", async () => {
  expect(await cli("run", "wait", "tea", "--detach", "--run-id", "long")).toEqual({
    code: 0,
    stdout: "long\n",
    stderr: "",
  });
  expect(await cli("runs", "result", "long")).toMatchObject({ code: 1, stderr: expect.stringContaining("--wait") });
  const waiting = startTroupe(["runs", "result", "long", "--wait"], { cwd: served.dir });
  expect((await cli("runs", "cancel", "long", "--reason", "enough")).stdout).toBe("cancelling long\n");
  expect(await waiting.ended).toMatchObject({ code: 1, stderr: "troupe: run long cancelled: enough\n" });
  expect(await cli("runs", "cancel", "long")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("cancelled already"),
  });
});

test("agents and workflows are listed, and a workflow is shown", async () => {
  expect(cells((await cli("agents")).stdout).map(([name]) => name)).toEqual([
    "AGENT",
    "echo",
    "first",
    "loud",
    "never",
    "wrong",
  ]);
  const agents = JSON.parse((await cli("agents", "--json")).stdout) as AgentListing[];
  expect(agents.find(({ name }) => name === "first")).toMatchObject({ model: "test", handoffs: ["echo"] });
  expect((await cli("workflows")).stdout).toMatch(/repeat {4}deterministic {2}1 {8}echo, loud {3}Twice\./);
  expect((await cli("workflows", "phone")).stdout).toMatch(/entry +first/);
  expect(await cli("workflows", "nope")).toMatchObject({ code: 1, stderr: expect.stringContaining('"nope"') });
});

test("events tells one run from its beginning, and all runs from now on", async () => {
  const one = await cli("events", "done");
  expect(one.stdout).toMatch(/accepted.*started +echo.*answered.*completed/s);
  const all = startTroupe(["events", "--json"], { cwd: served.dir });
  // There is no telling when it listens, so runs are started until one is heard.
  for (let n = 1; !all.out.stdout.includes("run.completed"); n += 1)
    await cli("run", "single", "tea", "--run-id", `heard-${n}`);
  all.child.kill("SIGINT");
  await all.ended;
  const events = all.out.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as RunEvent);
  expect(events.every(({ runId }) => runId.startsWith("heard-"))).toBe(true);
});

test("a reader that has seen enough ends a command without a word", async () => {
  const listing = startTroupe(["runs", "journal", "done", "--json"], { cwd: served.dir });
  listing.child.stdout?.destroy();
  await until("it has ended", () => listing.child.exitCode !== null);
  expect(listing.out.stderr).toBe("");
});
