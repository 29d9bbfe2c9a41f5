import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Diagnosis } from "../../src/runtime/edges/diagnosis.ts";
import { connect } from "../../src/runtime/nats/nats.ts";
import { startTestNats } from "../helpers/nats-server.ts";
import { serveFiles, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";
import { CLI_FILES } from "./cli-files.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-cli-"));
});
afterAll(() => rm(dir, { recursive: true }));

const doctor = (...args: string[]) => troupe(["doctor", ...args], { cwd: dir });

test("a healthy troupe is shown in full and ends with 0; with a dead letter it ends with 1 and says what to do", async () => {
  await using served = await serveFiles(CLI_FILES, { args: ["--drain-timeout", "1s"] });
  const look = (...args: string[]) => troupe(["doctor", ...args], { cwd: served.dir });
  await troupe(["run", "wait", "tea", "--detach"], { cwd: served.dir });
  const healthy = await look();
  expect(healthy).toMatchObject({ code: 0, stderr: "" });
  expect(healthy.stdout).toMatch(
    /^broker +nats-server \d+\.\d+\.\d+ at 127\.0\.0\.1:\d+, embedded, answers in \d+ ms$/m,
  );
  for (const line of [
    /^power loss +\S.*power loss/m,
    /^copies +streams are on one server/m,
    /^daemons +1$/m,
    /^door +nothing waits, 0 in hand/m,
    /^runs +1 unfinished: 1 (running|waiting)$/m,
    /^dead letters +none$/m,
    /^TROUPE_RUNS +\d+ +\S+ \S+ +1 +\d{4}-/m,
    /^DAEMON +RUNS +TASKS +AGENTS +WORKFLOWS$/m,
    /^Healthy: nothing is wrong\.$/m,
  ]) {
    expect(healthy.stdout).toMatch(line);
  }

  const { broker } = JSON.parse((await look("--json")).stdout) as Diagnosis;
  const nc = await connect({ servers: `nats://${broker?.url}` });
  nc.publish("troupe.agents.echo", "hello");
  await nc.drain();
  const ailing = await until("it is a dead letter", async () => {
    const seen = await look("--json");
    return seen.code === 1 && (JSON.parse(seen.stdout) as Diagnosis);
  });
  expect(ailing).toMatchObject({ healthy: false, deadLetters: 1, problems: [{ code: "dead_letters" }] });
  expect((await look()).stdout).toMatch(/\n1 problem\n✗ there is a dead letter\n {2}`troupe dead list` says why/);
});

test("without a daemon it tells what the broker knows, and ends with 1", async () => {
  await using server = await startTestNats();
  const { code, stdout, stderr } = await doctor("--nats", server.url, "--listen", "100ms");
  expect({ code, stderr }).toEqual({ code: 1, stderr: "" });
  expect(stdout).toMatch(/^broker +nats-server .* a single server/m);
  expect(stdout).toMatch(/^runs +unknown: no daemon answers$/m);
  expect(stdout).toMatch(/✗ there are no streams for the prefix troupe.*✗ no daemon is there/s);
});

test("without a broker it is one problem, in JSON too", async () => {
  const { code, stdout } = await doctor("--nats", "nats://127.0.0.1:1");
  expect(code).toBe(1);
  expect(stdout).toMatch(/✗ no NATS at nats:\/\/127\.0\.0\.1:1 .*: nothing listens there\n/);
  const seen = JSON.parse((await doctor("--nats", "nats://127.0.0.1:1", "--json")).stdout) as Diagnosis;
  expect(seen).toMatchObject({ healthy: false, problems: [{ code: "unreachable" }] });
});

test("a mistake in the command ends with 2", async () => {
  expect(await doctor("--listen", "soon")).toMatchObject({ code: 2, stdout: "" });
});
