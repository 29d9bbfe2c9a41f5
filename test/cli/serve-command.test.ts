import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startTestNats } from "../helpers/nats-server.ts";
import { serveFiles, startTroupe, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";
import { CLI_FILES } from "./cli-files.ts";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test("serve logs JSON lines, answers health checks, and ends with 0 on SIGTERM", async () => {
  await using served = await serveFiles(CLI_FILES, { env: { TROUPE_HTTP_PROT: "1" } });
  const lines = served.serve.out.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { [key: string]: unknown });
  const ready = lines.find(({ msg }) => msg === "ready");
  expect(lines[0]).toMatchObject({
    level: "warn",
    msg: expect.stringContaining("did you mean TROUPE_HTTP_PORT?"),
  });
  expect(ready).toMatchObject({ level: "info", agents: ["echo", "loud", "never", "wrong", "first"] });
  expect((await fetch(`${ready?.http}/readyz`)).status).toBe(200);
  const { code, stdout, stderr } = await served.stop();
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toContain('"stopped"');
});

test("runs survive a restart of everything", async () => {
  await using served = await serveFiles(CLI_FILES);
  await troupe(["run", "single", "tea", "--run-id", "kept"], { cwd: served.dir });
  await served.stop();
  const again = startTroupe(["serve", "--http-port", "0"], { cwd: served.dir });
  await until("the daemon is ready again", () => again.out.stdout.includes('"ready"'));
  expect((await troupe(["runs", "result", "kept"], { cwd: served.dir })).stdout).toBe("echo of tea\n");
  again.child.kill("SIGTERM");
  expect((await again.ended).code).toBe(0);
});

test("copies of one signal drain, a second signal ends at once", async () => {
  await using served = await serveFiles(CLI_FILES, { args: ["--drain-timeout", "60s"] });
  const { child, out, ended } = served.serve;
  await troupe(["run", "wait", "tea", "--detach"], { cwd: served.dir });
  child.kill("SIGINT");
  child.kill("SIGTERM");
  await until("it drains", () => out.stdout.includes('"draining"'));
  // Longer than copies of one signal take; a task that never ends keeps it draining.
  await pause(400);
  expect(child.exitCode).toBe(null);
  child.kill("SIGTERM");
  expect((await ended).code).toBe(143);
});

test("a signal before NATS is there ends the daemon too", async () => {
  const dir = await folderWith(CLI_FILES);
  await using server = await startTestNats();
  const { url } = server;
  await server.stop();
  const waiting = startTroupe(["serve", "--http-port", "0", "--nats", url], { cwd: dir });
  await until("it looks for NATS", () => waiting.out.stdout.includes("connecting to NATS"));
  waiting.child.kill("SIGTERM");
  expect(await waiting.ended).toMatchObject({ code: 0, stderr: "" });
  await rm(dir, { recursive: true });
});

test("a folder without a configuration is told so", async () => {
  const dir = await folderWith({});
  const { code, stdout, stderr } = await troupe(["serve"], { cwd: dir });
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toMatch(/^troupe: configuration: expected troupe.yaml .*\n$/);
  await rm(dir, { recursive: true });
});

test("what cannot be served is said in one line and ends with 2", async () => {
  const dir = await folderWith(CLI_FILES);
  const taken = createServer().listen(0, "127.0.0.1");
  await until("the port is taken", () => taken.listening);
  const { port } = taken.address() as AddressInfo;
  const refused: [string[], RegExp][] = [
    [
      ["--http-port", String(port)],
      /^troupe: --http-port: expected a free port, got 127.0.0.1:\d+, which is in use.*\n$/,
    ],
    [["--suspect-after", "soon"], /^troupe: --suspect-after: expected a duration .*got "soon"\n$/],
    [["--agents", "ehco", "--http-port", "0"], /^troupe: agents: expected names of defined agents .*got ehco\n$/],
  ];
  for (const [args, message] of refused) {
    const { code, stderr } = await troupe(["serve", ...args], { cwd: dir });
    expect({ args, code, stderr }).toEqual({ args, code: 2, stderr: expect.stringMatching(message) });
  }
  taken.close();
  await rm(dir, { recursive: true });
});

async function folderWith(files: { [name: string]: string }): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "troupe-cli-"));
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text);
  return dir;
}
