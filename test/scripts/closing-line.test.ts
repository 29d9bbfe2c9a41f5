import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** A project of its own with the same tools. */
let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-closing-"));
  await mkdir(join(dir, "test"));
  await symlink(join(root, "node_modules"), join(dir, "node_modules"));
});

afterEach(() => rm(dir, { recursive: true, force: true }));

async function runTests(files: Record<string, string>, ...args: string[]): Promise<{ code: number; lastLine: string }> {
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(dir, "test", name), `import { test } from "vitest";\n${text}`);
  }
  return new Promise((resolve) => {
    execFile(process.execPath, [join(root, "scripts/test.mjs"), ...args], { cwd: dir }, (error, stdout) => {
      const [lastLine = ""] = stdout.trimEnd().split("\n").slice(-1);
      resolve({ code: error ? Number(error.code) : 0, lastLine });
    });
  });
}

const PASSES = `test("a", () => {});`;
const FAILS = `test("b", () => { throw new Error("no"); });`;

test("the last line counts what passed, failed and was skipped", async () => {
  const files = { "a.test.ts": `${PASSES}${PASSES}${FAILS}test.skip("c", () => {});` };
  expect(await runTests(files)).toEqual({ code: 1, lastLine: "2 passed, 1 failed, 1 skipped" });
});

test("arguments choose tests as they do for vitest", async () => {
  const files = { "a.test.ts": PASSES, "b.test.ts": FAILS };
  expect(await runTests(files, "test/a.test.ts")).toEqual({ code: 0, lastLine: "1 passed, 0 failed, 0 skipped" });
});

test("a file that does not load counts as failed", async () => {
  const files = { "a.test.ts": PASSES, "b.test.ts": `import "./nowhere.ts"; ${PASSES}` };
  expect(await runTests(files)).toEqual({ code: 1, lastLine: "1 passed, 1 failed, 0 skipped" });
});

test("an error that no test caught counts as failed", async () => {
  const files = {
    "a.test.ts": `${PASSES} setTimeout(() => { throw new Error("late"); }); test("b", () => new Promise((f) => setTimeout(f, 100)));`,
  };
  expect(await runTests(files)).toEqual({ code: 1, lastLine: "2 passed, 1 failed, 0 skipped" });
});

test("no test at all is a failure", async () => {
  expect(await runTests({})).toEqual({ code: 1, lastLine: "0 passed, 1 failed, 0 skipped" });
});
