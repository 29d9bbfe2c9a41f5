import { join } from "node:path";
import { connect } from "nats";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findRunningNatsServer } from "../../src/runtime/nats/server.ts";
import type { RunRecord } from "../../src/workflows/run-record.ts";
import { type ServedDir, serveFiles, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";
import { CLI_FILES } from "./cli-files.ts";

let served: ServedDir;

beforeAll(async () => {
  served = await serveFiles(CLI_FILES);
});
afterAll(() => served[Symbol.asyncDispose]());

const cli = (...args: string[]) => troupe(args, { cwd: served.dir });
const recordOf = async (runId: string) =>
  JSON.parse((await cli("runs", "get", runId, "--json")).stdout || "{}") as Partial<RunRecord>;

/** Writes the journal of a run of the workflow `single` that was parked under an earlier definition. */
async function park(runId: string, step: string): Promise<void> {
  const trace = { traceId: "0af7651916cd43dd8448eb211c80319c", sampled: false };
  const bound = { version: "1", hash: "an-earlier-one", kind: "deterministic", steps: 1 };
  const bodies = [
    { type: "run.accepted", data: { input: "tea", workflow: "single", ...bound, trace } },
    { type: "run.claimed", data: { host: "gone", incarnation: "gone/1", reason: "accepted" } },
    { type: "step.started", data: { step, agent: "echo" } },
    { type: "task.sent", data: { taskId: `${step}-1`, agent: "echo", step, attempt: 1, delivery: 1 } },
    { type: "run.parked", data: { reason: "cannot_fold: decision 1" } },
  ];
  const entry = bodies.map((body, i) => ({
    ...body,
    v: 1,
    id: `${runId}-${i}`,
    runId,
    n: i + 1,
    at: new Date().toISOString(),
    epoch: 1,
  }));
  const servers = await findRunningNatsServer(join(served.dir, ".troupe", "nats"));
  const nc = await connect({ servers: servers as string });
  await nc.jetstream().publish(`troupe.runs.${runId}`, JSON.stringify(entry));
  await nc.close();
  await until("the run is seen to be parked", async () => (await recordOf(runId)).parked !== undefined);
}

test("a parked run goes on with the definition there is now where that makes the decisions on record", async () => {
  await park("fits", "echo");
  expect(await cli("runs", "resume", "fits")).toMatchObject({ code: 0, stdout: "fits goes on\n" });
  expect((await cli("runs", "result", "fits", "--wait")).stdout).toBe("echo of tea\n");
  const run = await recordOf("fits");
  expect(run).toMatchObject({ status: "completed" });
  expect(run.hash).not.toBe("an-earlier-one");
  expect(await cli("runs", "resume", "fits")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("completed already"),
  });
});

test("a parked run whose journal fits no definition stays parked, and resume says where it does not", async () => {
  await park("odd", "other");
  const before = await recordOf("odd");
  expect(await cli("runs", "resume", "odd")).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/run odd cannot go on: cannot_fold: decision 1: expected step.started other/),
  });
  expect(await recordOf("odd")).toEqual(before);
});

test("a parked run can be ended as failed, with a reason", async () => {
  await park("doomed", "other");
  expect(await cli("runs", "fail", "doomed", "--reason", "wrong version")).toMatchObject({ stdout: "failed doomed\n" });
  expect(await recordOf("doomed")).toMatchObject({
    status: "failed",
    error: { code: "parked", message: "wrong version" },
  });
});

test("a run that is not parked, or not there, is neither resumed nor failed", async () => {
  await cli("run", "wait", "tea", "--run-id", "busy", "--detach");
  for (const command of ["resume", "fail"]) {
    expect(await cli("runs", command, "busy")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("not parked"),
    });
    expect((await cli("runs", command, "nobody")).stderr).toContain('no run "nobody"');
  }
  await cli("runs", "cancel", "busy");
});
