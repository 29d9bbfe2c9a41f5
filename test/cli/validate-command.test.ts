import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { troupe } from "../helpers/troupe.ts";
import { CLI_FILES } from "./cli-files.ts";

let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-cli-"));
  for (const [name, text] of Object.entries(CLI_FILES)) await writeFile(join(dir, name), text);
  const bad = `
agents:
  a: { instructons: Work., model: m }
providers:
  p: { modul: ./x.ts }
workflows:
  w: { agents: [b] }
daemon: { suspectAfterMs: never }
`;
  await writeFile(join(dir, "bad.yaml"), bad);
});

afterAll(() => rm(dir, { recursive: true }));

const validate = (...args: string[]) => troupe(["validate", ...args], { cwd: dir });

test("a configuration in which nothing is wrong is told so", async () => {
  expect(await validate()).toEqual({
    code: 0,
    stdout: "troupe.yaml: 5 agents and 5 workflows, nothing wrong\n",
    stderr: "",
  });
});

test("the folder of definitions is checked with it", async () => {
  await mkdir(join(dir, "flows"));
  await writeFile(join(dir, "flows", "more.yaml"), "agents: [echo]\n");
  expect((await validate("troupe.yaml", "--workflows", "flows")).stdout).toContain("5 agents and 6 workflows");
  await writeFile(join(dir, "flows", "more.yaml"), "agents: [ecko]\n");
  const refused = await validate("troupe.yaml", "--workflows", "flows");
  expect(refused).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("more.yaml:1: agents[0]: expected an agent"),
  });
});

test("everything that is wrong is told at once, with its line, and ends with 2", async () => {
  const { code, stdout, stderr } = await validate("bad.yaml");
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  const places = stderr
    .trimEnd()
    .split("\n")
    .map((line) => /^(\S+): (\S+): expected .+, got .+$/.exec(line)?.slice(1));
  expect(places).toEqual([
    ["bad.yaml:3", "agents.a.instructons"],
    ["bad.yaml:3", "agents.a.instructions"],
    ["bad.yaml:7", "workflows.w.agents[0]"],
    ["bad.yaml:8", "daemon.suspectAfterMs"],
    ["bad.yaml:5", "providers.p.modul"],
  ]);
});

test("--json gives the problems as data", async () => {
  const { code, stdout } = await validate("bad.yaml", "--json");
  expect(code).toBe(2);
  expect((JSON.parse(stdout) as { problems: unknown[] }).problems).toHaveLength(5);
  expect(JSON.parse((await validate("--json")).stdout)).toMatchObject({ file: "troupe.yaml", problems: [] });
});

test("a file that is not there is a mistake in the command", async () => {
  expect(await validate("nix.yaml")).toMatchObject({ code: 2, stderr: expect.stringContaining('"nix.yaml"') });
});
