import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { connect } from "../../src/index.ts";
import { type ConformanceReport, conformanceChecks } from "../../src/runtime/conformance/check-worker.ts";
import { connect as connectNats } from "../../src/runtime/nats/nats.ts";
import { documentedPermissions } from "../helpers/documented-permissions.ts";
import { startTestNats } from "../helpers/nats-server.ts";
import { hasPython, startPythonWorker } from "../helpers/python-worker.ts";
import { serveFiles, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

/** An agent that a worker in Python serves, beside one of the daemon's own. */
const FILES = {
  "troupe.yaml": `
providers:
  scripted: { module: ./model.ts }
agents:
  shout: { remote: true, description: Says it louder., handoffs: [clerk] }
  clerk: { instructions: Answer., model: test, provider: scripted, description: Answers questions. }
workflows:
  loud: { agents: [clerk, shout] }
  desk: { entry: shout, agents: [shout, clerk] }
  alone: { agents: [shout] }
`,
  "model.ts": `
import { rulesModel, say } from "troupe/testing";
export default rulesModel([{ reply: (s) => say("as you say: " + s.lastUser) }]);
`,
};

it("the example worker has less than 80 lines", async () => {
  const text = await readFile(new URL("../../examples/workers/python/worker.py", import.meta.url), "utf8");
  expect(text.trimEnd().split("\n").length).toBeLessThan(80);
});

describe.skipIf(!hasPython)("the worker in Python", () => {
  it("passes every check of `troupe conformance`, with no other permissions than the documented ones", async () => {
    await using nats = await startTestNats({ configExtra: await documentedPermissions() });
    await using worker = await startPythonWorker(nats.url.replace("//", "//worker:change-me-3@"));
    const cwd = await mkdtemp(join(tmpdir(), "troupe-conformance-"));
    const owner = ["--nats", nats.url, "--user", "daemon", "--password", "change-me-1"];
    const flags = [...owner, "--slow-input", "slowly, please", "--handoff-input", "really?"];
    // A machine that is busy for a moment is not what is looked for.
    const patience = ["--accept-within", "3s"];
    const args = ["conformance", "--subject", "troupe.agents.shout", ...flags, ...patience, "--json"];
    const { code, stdout, stderr } = await troupe(args, { cwd });
    await rm(cwd, { recursive: true });
    expect(stderr).toBe("");
    const report = JSON.parse(stdout) as ConformanceReport;
    expect(report.checks.filter(({ status }) => status !== "passed")).toEqual([]);
    expect(report).toMatchObject({
      conforms: true,
      passed: conformanceChecks.length,
      worker: expect.stringMatching(/^python\//),
    });
    expect(code).toBe(0);
    expect(worker.child.exitCode).toBe(null);
    expect(worker.out.text).not.toContain("Permissions");
  }, 120_000);

  it("serves an agent of a daemon: a step, a handoff, a cancel, and what another one left", async () => {
    await using nats = await startTestNats();
    const args = ["--nats", nats.url, "--working-every", "2s", "--task-silence", "8s", "--drain-timeout", "1s"];
    await using _served = await serveFiles(FILES, { args });
    await using client = await connect({ servers: nats.url });
    await using accepted = await watchAccepted(nats.url);

    const { runId } = await client.start("loud", "tea");
    const waiting = await until("it waits", async () => (await client.get(runId)).waitingFor, { withinMs: 20_000 });
    expect(waiting).toContain("no worker serves agent shout");
    await using first = await startPythonWorker(nats.url);
    expect(await client.result(runId)).toContain("AS YOU SAY: TEA");

    expect(await client.run("desk", "what is tea?")).toMatch(/^as you say: /);
    const handedOver = await client.list({ workflow: "desk" });
    const desk = await client.get(handedOver.runs[0]?.runId ?? "");
    expect(desk.handoffs).toMatchObject([{ from: "shout", to: "clerk", reason: "a question" }]);

    const cancelled = await client.start("alone", "slowly, or not at all");
    await until("the worker has it", () => accepted.tasks >= 3);
    await client.cancel(cancelled.runId);
    await expect(client.result(cancelled.runId)).rejects.toThrow("cancelled");
    await until("the worker has stopped", () => new RegExp(`${cancelled.runId} \\S+ failed`).test(first.out.text));

    const left = await client.start("alone", "slowly but surely");
    await until("the worker has it", () => accepted.tasks >= 4);
    first.child.kill("SIGKILL");
    await using _second = await startPythonWorker(nats.url);
    expect(await client.result(left.runId)).toBe("SLOWLY BUT SURELY");
    const sent = (await client.journal(left.runId)).filter(({ type }) => type === "task.sent");
    expect(sent.length).toBeGreaterThan(1);
  }, 120_000);
});

/** Counts the tasks that the worker has accepted. */
async function watchAccepted(url: string): Promise<{ tasks: number } & AsyncDisposable> {
  const nc = await connectNats({ servers: url });
  const watched = { tasks: 0, [Symbol.asyncDispose]: () => nc.close() };
  nc.subscribe("_INBOX_troupe_daemon.owner.>", {
    callback(_, msg) {
      const { type, worker } = msg.json<{ type: string; worker?: string }>();
      if (type === "accepted" && worker?.startsWith("python/")) watched.tasks += 1;
    },
  });
  await nc.flush();
  return watched;
}
