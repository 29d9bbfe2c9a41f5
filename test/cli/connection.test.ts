import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestNats } from "../helpers/nats-server.ts";
import { troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-cli-"));
});

afterAll(() => rm(dir, { recursive: true }));

test("NATS that is not there is one line that says where it was looked for, not a wait", async () => {
  const { code, stdout, stderr } = await troupe(["agents", "--nats", "nats://127.0.0.1:1"], { cwd: dir });
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toBe("troupe: no NATS at nats://127.0.0.1:1 (as --nats or NATS_URL says): nothing listens there\n");
});

test("NATS that does not answer is given up within seconds", async () => {
  const silent = createServer().listen(0, "127.0.0.1");
  await until("the port is taken", () => silent.listening);
  const { port } = silent.address() as AddressInfo;
  const { code, stderr } = await troupe(["agents"], { cwd: dir, env: { NATS_URL: `nats://127.0.0.1:${port}` } });
  expect(code).toBe(1);
  expect(stderr).toMatch(/^troupe: no NATS at nats:\/\/127.0.0.1:\d+ .*: .*answer.*\n$/);
  silent.close();
});

test("NATS without a daemon is told apart from no NATS", async () => {
  await using server = await startTestNats();
  const { code, stderr } = await troupe(["run", "article", "tea", "--nats", server.url], { cwd: dir });
  expect(code).toBe(1);
  expect(stderr).toMatch(/^troupe: NATS at .*: no daemon is there to answer; is `troupe serve` running\?\n$/);
});

test("NATS that wants a token gets the one that is given, and a refusal is one line", async () => {
  await using server = await startTestNats({ configExtra: "authorization { token: sesame }" });
  const ask = (...flags: string[]) => troupe(["agents", "--nats", server.url, ...flags], { cwd: dir });
  expect((await ask()).stderr).toMatch(/^troupe: no NATS at .*Authorization Violation.*\n$/);
  expect((await ask("--token", "sesame")).stderr).toContain("no daemon is there to answer");
});
