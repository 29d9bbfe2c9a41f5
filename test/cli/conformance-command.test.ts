import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { conformanceChecks } from "../../src/runtime/conformance/check-worker.ts";
import { connect, type NatsConnection } from "../../src/runtime/nats/nats.ts";
import { startTestNats, type TestNats } from "../helpers/nats-server.ts";
import { startOwnWorker } from "../helpers/own-worker.ts";
import { troupe } from "../helpers/troupe.ts";

let dir: string;
let nats: TestNats;
let nc: NatsConnection;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-cli-"));
  nats = await startTestNats();
  nc = await connect({ servers: nats.url });
  startOwnWorker({ nc, agent: "right" });
  startOwnWorker({ nc, agent: "wrong", defect: "calls it otherwise" });
  await nc.flush();
});
afterAll(async () => {
  await nc.close();
  await nats[Symbol.asyncDispose]();
  await rm(dir, { recursive: true });
});

const conformance = (...args: string[]) =>
  troupe(["conformance", "--nats", nats.url, "--accept-within", "3s", "--listen", "1s", ...args], { cwd: dir });

test("a worker that conforms is shown check by check, and the command ends with 0", async () => {
  const only = "accepted,outcome,no-handoff,cancel";
  const { code, stdout, stderr } = await conformance("--subject", "troupe.agents.right", "--only", only);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toBe(`troupe.agents.right  own/1
✓ accepted    A task is accepted, or its outcome is there, in time.
✓ outcome     The outcome of a task comes as a request and is well-formed.
✓ no-handoff  Where a task names no agents to hand over to, its outcome is no handoff.
– cancel      A task that is cancelled stops, and its outcome is \`failed\` with the code \`cancelled\`.
              skipped: needs an input that takes a while (--slow-input)

Conforms: 3 checks passed, 1 skipped.
`);
});

test("what is wrong is said with its place in the contract, and the command ends with 1", async () => {
  const about = ["--subject", "troupe.agents.wrong", "--slow-input", "slow", "--only", "cancel"];
  const { code, stdout } = await conformance(...about);
  expect(code).toBe(1);
  expect(stdout).toMatch(
    /^✗ cancel {2}A task that is cancelled stops.*\n {10}expected failed with the code cancelled, got .*"stopped"/m,
  );
  expect(stdout).toContain(`docs/protocol.md, Tasks: "with the code \`cancelled\`"`);
  expect(stdout).toMatch(/\nDoes not conform: 1 check failed, 0 passed\.\n$/);
  const json = JSON.parse((await conformance(...about, "--json")).stdout);
  expect(json).toMatchObject({ conforms: false, failed: 1, checks: [{ id: "cancel", status: "failed" }] });
});

test("the checks are listed without a broker", async () => {
  const { code, stdout } = await troupe(["conformance", "--list", "--json"], { cwd: dir });
  expect(code).toBe(0);
  expect((JSON.parse(stdout) as { id: string }[]).map(({ id }) => id)).toEqual(conformanceChecks.map(({ id }) => id));
});

test("nobody at the mailbox ends with 1, a mistake in the command with 2", async () => {
  const nobody = await conformance("--subject", "troupe.agents.nobody");
  expect(nobody).toMatchObject({ code: 1, stdout: "" });
  expect(nobody.stderr).toContain("troupe.agents.nobody: nobody serves it");
  expect(await conformance()).toMatchObject({ code: 2, stderr: expect.stringContaining("--subject: expected") });
  expect(await conformance("--subject", "shout")).toMatchObject({ code: 2 });
  expect(await conformance("--subject", "troupe.agents.right", "--only", "acepted")).toMatchObject({ code: 2 });
});
