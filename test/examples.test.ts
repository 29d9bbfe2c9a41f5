import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { loadConfig } from "../src/runtime/config/load-config.ts";

const examples = fileURLToPath(new URL("../examples", import.meta.url));
const names = (await readdir(examples)).filter((name) => name.endsWith(".ts"));
const texts = new Map(await Promise.all(names.map(async (name) => [name, await read(name)] as const)));
const programs = [...texts].filter(([, text]) => expectedOutput(text) !== undefined);

function read(name: string): Promise<string> {
  return readFile(join(examples, name), "utf8");
}

/** What a program prints stands in the comment that it ends with. */
function expectedOutput(text: string): string | undefined {
  const comment = /\n\n((?:\/\/ .*\n)+)$/.exec(text)?.[1];
  return comment?.replaceAll(/^\/\/ /gm, "");
}

test("every example is a program that says what it prints, or part of troupe.yaml", async () => {
  const config = await read("troupe.yaml");
  const parts = names.filter((name) => config.includes(`module: ./${name}`));
  expect([...parts, ...programs.map(([name]) => name)].sort()).toEqual([...names].sort());
  expect(programs).not.toEqual([]);
});

test.each(programs)("examples/%s prints what it says", async (name, text) => {
  const cwd = await mkdtemp(join(tmpdir(), "troupe-example-"));
  const foreign = /^(TROUPE_|OTEL_|NATS_|OPENAI_)/;
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([variable]) => variable === "TROUPE_NATS_SERVER" || !foreign.test(variable)),
  );
  const { stdout } = await promisify(execFile)(process.execPath, [join(examples, name)], { cwd, env });
  expect(stdout).toBe(expectedOutput(text));
  await rm(cwd, { recursive: true });
});

test("examples/troupe.yaml has nothing wrong", async () => {
  const { workflows } = await loadConfig("troupe.yaml", examples);
  expect([...workflows.keys()]).toEqual(["article", "review", "support"]);
});
