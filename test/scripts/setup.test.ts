import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-setup-"));
});

afterEach(() => rm(dir, { recursive: true, force: true }));

type Ended = { code: number; stdout: string; stderr: string };

function run(args: string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: root, env: { ...process.env, ...env } }, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}

/** Evaluates an expression over the exports of a set-up module and gives its value. */
async function evaluate(module: string, expression: string): Promise<unknown> {
  const url = JSON.stringify(new URL(`../../scripts/setup/${module}`, import.meta.url).href);
  const { stdout, stderr } = await run([
    "--input-type=module",
    "--eval",
    `const m = await import(${url}); console.log(JSON.stringify((await ${expression}) ?? null));`,
  ]);
  if (stderr) throw new Error(stderr);
  return JSON.parse(stdout);
}

async function writeLocks(wanted: object, present?: object): Promise<void> {
  await writeFile(join(dir, "package-lock.json"), JSON.stringify({ packages: wanted }));
  if (!present) return;
  await mkdir(join(dir, "node_modules"), { recursive: true });
  await writeFile(join(dir, "node_modules/.package-lock.json"), JSON.stringify({ packages: present }));
}

const hasDependencies = () => evaluate("dependencies.mjs", `m.hasDependencies(${JSON.stringify(dir)})`);

test("set-up says nothing and takes less than two seconds when nothing is missing", async () => {
  const startedAt = performance.now();
  expect(await run(["scripts/setup.mjs"])).toEqual({ code: 0, stdout: "", stderr: "" });
  expect(performance.now() - startedAt).toBeLessThan(2000);
});

test("what cannot be found ends with one line that says what is expected", async () => {
  const { code, stdout, stderr } = await run(["scripts/setup.mjs"], { TROUPE_NATS_SERVER: "/no/such/server" });
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toBe("setup: TROUPE_NATS_SERVER: expected the file of a nats-server, got /no/such/server\n");
});

test("the launcher ends with the same line, and without a script with how to use it", async () => {
  const failed = await run(["scripts/run.mjs", "scripts/test.mjs"], { TROUPE_NATS_SERVER: "/no/such/server" });
  expect(failed).toMatchObject({ code: 1, stderr: expect.stringMatching(/^setup: TROUPE_NATS_SERVER: .*\n$/) });
  expect(await run(["scripts/run.mjs"])).toMatchObject({ code: 2, stderr: expect.stringMatching(/^usage: .*\n$/) });
});

test("dependencies are complete when npm's record of them has every version of the lock file", async () => {
  const wanted = {
    "": {},
    "node_modules/a": { version: "1.0.0" },
    "node_modules/b": { version: "2.0.0", optional: true },
  };
  await writeLocks(wanted, { "node_modules/a": { version: "1.0.0" } });
  expect(await hasDependencies()).toBe(true);
  await writeLocks(wanted, { "node_modules/a": { version: "1.0.1" } });
  expect(await hasDependencies()).toBe(false);
  await writeLocks(wanted, {});
  expect(await hasDependencies()).toBe(false);
});

test("dependencies are incomplete before the first install", async () => {
  await writeLocks({ "": {} });
  expect(await hasDependencies()).toBe(false);
});

test("versions compare by number, part by part", async () => {
  const compare = (version: string) =>
    evaluate("../../bin/fitting-node.mjs", `m.isAtLeast(${JSON.stringify(version)}, "22.18")`);
  expect(await compare("v22.18.0")).toBe(true);
  expect(await compare("22.9.0")).toBe(false);
  expect(await compare("100.0.0")).toBe(true);
  expect(await compare("20.20.2")).toBe(false);
});

test("two set-ups at once work one after the other, and a lock of a dead process does not stop the next", async () => {
  const lock = JSON.stringify(join(dir, "setup.lock"));
  const result = await evaluate(
    "lock.mjs",
    `(async () => {
      const { spawnSync } = await import("node:child_process");
      const { mkdirSync, writeFileSync } = await import("node:fs");
      mkdirSync(${lock});
      writeFileSync(${lock} + "/pid", String(spawnSync(process.execPath, ["--version"]).pid));
      process.stderr.write = () => true;
      let inside = 0;
      let most = 0;
      const work = async () => {
        most = Math.max(most, ++inside);
        await new Promise((done) => setTimeout(done, 20));
        inside--;
      };
      await Promise.all([1, 2, 3].map(() => m.withLock(work, { dir: ${lock} })));
      return most;
    })()`,
  );
  expect(result).toBe(1);
});
