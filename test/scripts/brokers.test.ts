import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-brokers-"));
});

afterEach(() => rm(dir, { recursive: true, force: true }));

/** Evaluates an expression over the exports of a set-up module, on a machine that has nothing on PATH. */
async function evaluate(module: string, expression: string): Promise<unknown> {
  const url = JSON.stringify(new URL(`../../scripts/setup/${module}`, import.meta.url).href);
  const program = `const m = await import(${url}); console.log(JSON.stringify((${expression}) ?? null));`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: root,
    env: { PATH: dir, TROUPE_NATS_SERVER: await fakeServer("own", "2.9.10") },
  });
  return JSON.parse(stdout);
}

/** A program that tells a version as nats-server does. */
async function fakeServer(folder: string, version: string): Promise<string> {
  await mkdir(join(dir, folder), { recursive: true });
  const file = join(dir, folder, "nats-server");
  await writeFile(file, `#!/bin/sh\necho "nats-server: v${version}"\n`);
  await chmod(file, 0o755);
  return file;
}

/** What is obtained for a line of releases, with nothing to build or fetch it with. */
function obtain(line: string): Promise<unknown> {
  return evaluate(
    "brokers.mjs",
    `m.obtainBroker({ ...m.BROKER_LINES.find(({ name }) => name === "${line}"), goVersions: [] }, ${JSON.stringify(dir)})`,
  );
}

test("every version from 2.9 on belongs to one line of releases", async () => {
  const versions = ["2.8.4", "2.9.10", "2.9.25", "2.10.27", "2.11.0", "2.15.1", "3.0.0"];
  const lines = `${JSON.stringify(versions)}.map((v) => m.BROKER_LINES.filter((l) => l.fits(v)).map((l) => l.name).join())`;
  expect(await evaluate("brokers.mjs", lines)).toEqual(["", "2.9", "2.9", "2.10", "newest", "newest", "newest"]);
});

test("the machine's own nats-server is taken for its line", async () => {
  expect(await obtain("2.9")).toEqual({ version: "2.9.10", file: join(dir, "own/nats-server") });
});

test("of the versions that were brought before the newest that fits is taken", async () => {
  for (const version of ["2.10.9", "2.10.27", "2.15.1"]) await fakeServer(version, version);
  expect(await obtain("2.10")).toEqual({ version: "2.10.27", file: join(dir, "2.10.27/nats-server") });
});

test("a version that cannot be obtained is told with what was tried", async () => {
  expect(await obtain("2.10")).toEqual({ missing: "apt: not on this machine" });
});

test("of what a Debian archive offers the newest that fits is chosen, whichever is named first", async () => {
  const madison = [
    " nats-server | 2.10.9-1 | http://archive.example/debian trixie/main amd64 Packages",
    " nats-server | 2.10.27-1+b2 | http://archive.example/debian trixie/main amd64 Packages",
    " nats-server | 2.15.1-1 | http://archive.example/debian sid/main amd64 Packages",
  ].join("\n");
  const choose = (fits: string) =>
    evaluate("choose-package.mjs", `m.choosePackage(${JSON.stringify(madison)}, (v) => v.startsWith("${fits}"))`);
  expect(await choose("2.10.")).toBe("2.10.27-1+b2");
  expect(await choose("2.9.")).toBeNull();
});
