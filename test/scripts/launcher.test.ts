import { execFile } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** A package like ours with a command line that only tells how it was run. */
let dir: string;

beforeEach(async () => {
  dir = await realpath(await mkdtemp(join(tmpdir(), "troupe-launcher-")));
  await cp(join(root, "bin"), join(dir, "bin"), { recursive: true });
  await requireNode(">=22.18");
});

afterEach(() => rm(dir, { recursive: true, force: true }));

async function write(path: string, text: string): Promise<void> {
  await mkdir(join(dir, path, ".."), { recursive: true });
  await writeFile(join(dir, path), text);
}

async function requireNode(node: string): Promise<void> {
  const manifest = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  await write("package.json", JSON.stringify({ ...manifest, engines: { node } }));
}

/** Puts a Node into the package that says it is version 99, as set-up would. */
async function bringNode(version = "99.0.0"): Promise<void> {
  const home = ".tools/node/node_modules/node";
  await write(`${home}/package.json`, JSON.stringify({ version }));
  await write(`${home}/claim.cjs`, `Object.defineProperty(process.versions, "node", { value: "${version}" });`);
  await write(`${home}/bin/node`, `#!/bin/sh\nexec "${process.execPath}" --require "${dir}/${home}/claim.cjs" "$@"\n`);
  await chmod(join(dir, home, "bin/node"), 0o755);
}

type Ended = { code: number; stdout: string; stderr: string };

function troupe(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [join(dir, "bin/troupe"), ...args], { cwd: tmpdir() }, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}

test("a checkout runs its TypeScript sources, quietly, with the arguments and the exit code", async () => {
  await write("dist/cli.js", `console.log("built");`);
  await write(
    "src/cli.ts",
    `const args: string[] = process.argv.slice(2); console.log(args.join(" ")); process.exitCode = 3;`,
  );
  expect(await troupe("runs", "list")).toEqual({ code: 3, stdout: "runs list\n", stderr: "" });
});

test("an installed package runs its build", async () => {
  await write("dist/cli.js", `console.log("built", process.argv[2]);`);
  expect(await troupe("--version")).toEqual({ code: 0, stdout: "built --version\n", stderr: "" });
});

test("experimental features of Node are not announced to users, other warnings are", async () => {
  await write("dist/cli.js", `import "node:sqlite"; process.emitWarning("mind the step");`);
  const { stderr } = await troupe();
  expect(stderr).toContain("Warning: mind the step");
  expect(stderr).not.toContain("Experimental");
});

test("a configuration file outside of the package imports the copy that is running", async () => {
  const elsewhere = await mkdtemp(join(tmpdir(), "troupe-config-"));
  await writeFile(join(elsewhere, "troupe.ts"), `export { where } from "troupe";`);
  const cli = `console.log((await import(${JSON.stringify(join(elsewhere, "troupe.ts"))})).where);`;
  await write("dist/index.js", `export const where = "build";`);
  await write("dist/cli.js", cli);
  expect((await troupe()).stdout).toBe("build\n");
  await write("src/index.ts", `export const where: string = "source";`);
  await write("src/cli.ts", cli);
  expect((await troupe()).stdout).toBe("source\n");
  await rm(elsewhere, { recursive: true });
});

test("a Node that is too old hands over to the one that set-up brought", async () => {
  await requireNode(">=99");
  await bringNode();
  await write("src/cli.ts", `console.log(process.versions.node, process.argv[2]); process.exitCode = 4;`);
  expect(await troupe("--version")).toEqual({ code: 4, stdout: "99.0.0 --version\n", stderr: "" });
});

test("a Node that is too old and no other is one line and exit code 2", async () => {
  await requireNode(">=99");
  await bringNode("98.0.0");
  const { code, stdout, stderr } = await troupe("--version");
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toMatch(/^troupe: expected Node 99 or newer, got v[\d.]+; .*\n$/);
});
