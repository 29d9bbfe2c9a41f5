import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ServedDir, serveFiles, troupe } from "../helpers/troupe.ts";
import { CLI_FILES } from "./cli-files.ts";

let served: ServedDir;
beforeAll(async () => {
  served = await serveFiles(CLI_FILES);
}, 30_000);
afterAll(() => served[Symbol.asyncDispose]());

const run = (...args: string[]) => troupe(args, { cwd: served.dir });
const write = (name: string, text: string) => writeFile(join(served.dir, name), text);

const POEM = `# A poem.
agents:
  poet: { instructions: Write., model: test, provider: scripted }
workflows:
  poem: { agents: [echo, poet] }
tools: {}
`;

test("a file is put, changed, compared, exported and deleted", async () => {
  await write("poem.yaml", POEM);
  const first = await run("workflows", "put", "poem.yaml");
  expect(first.stdout).toMatch(/^poem is now version 1 \(#1, [0-9a-f]{16}\), with 1 agent\nnot kept, .*: tools\n$/);
  expect((await run("workflows", "put", "poem.yaml", "--expect", "1")).stdout).toMatch(/is version 1 already \(#1/);

  await write("poem.yaml", POEM.replace("Write.", "Rhyme.").replace("poem: {", "poem: { version: two,"));
  expect((await run("workflows", "put", "poem.yaml", "--expect", "7")).stderr).toContain("its last change is number 1");
  expect((await run("workflows", "put", "poem.yaml", "--expect", "1")).stdout).toContain("poem is now version two (#2");
  expect((await run("workflows", "versions", "poem")).stdout).toMatch(/#2 +two +current .*\n#1 +1 /);
  expect((await run("workflows", "diff", "poem")).stdout.split("\n").slice(1)).toEqual([
    "~ agents.poet.instructions: Write. → Rhyme.",
    "+ workflows.poem.version: two",
    "",
  ]);
  expect((await run("workflows", "diff", "poem", "#1", "1")).stdout).toContain("No difference.");

  const exported = await run("workflows", "export", "poem");
  expect(exported.stdout).toContain("instructions: Rhyme.");
  await write("again.yaml", exported.stdout);
  // It has the agent that only this daemon's configuration had.
  expect((await run("workflows", "put", "again.yaml")).stdout).toMatch(
    /poem is now version two \(#3, .* with 2 agents/,
  );
  expect((await run("workflows", "put", "again.yaml")).stdout).toContain("poem is version two already (#3");
  expect(
    JSON.parse((await run("workflows", "export", "poem", "--workflow-version", "1", "--json")).stdout),
  ).toMatchObject({
    workflows: { poem: { agents: ["echo", "poet"] } },
  });

  expect((await run("workflows", "delete", "poem")).stdout).toBe("deleted poem; its runs go on\n");
  expect((await run("workflows", "get", "poem")).code).toBe(1);
});

test("a file with a single workflow is one named like the file, and its mistakes have their lines", async () => {
  await write("verse.json", JSON.stringify({ agents: ["echo"] }));
  expect((await run("workflows", "put", "verse.json")).stdout).toMatch(/^verse is now version 1/);
  await write("bad.yaml", "steps:\n  - { id: a, agent: echo }\n  - { id: b, agent: ecko, after: c }\n");
  const refused = await run("workflows", "put", "bad.yaml");
  expect(refused.code).toBe(2);
  expect(refused.stderr).toMatch(/bad.yaml:3: steps\[1\].agent: expected an agent's name: .*got "ecko"/);
  expect(refused.stderr).toMatch(/bad.yaml:3: steps\[1\].after: expected the id of another step \(a\), got "c"/);
  await write("odd.yaml", "workflows: {}\nagnets: {}\n");
  expect((await run("workflows", "put", "odd.yaml")).stderr).toContain(
    "odd.yaml:2: agnets: expected one of the keys agents",
  );
  expect((await run("workflows", "put", "none.yaml")).code).toBe(2);
});

test("a module's definitions are put as data, and what is none is named", async () => {
  const head = 'import { defineAgent, defineConfig, defineWorkflow, handoff } from "troupe";\n';
  const agents = 'const a = defineAgent({ name: "a", instructions: "A.", model: "test", handoffs: [HANDOFF] });\n';
  const rest = 'const b = defineAgent({ name: "b", instructions: "B.", model: "test" });\n';
  const config =
    'export default defineConfig({ agents: [a, b], workflows: [defineWorkflow({ name: "ab", entry: a, agents: [a, b] })] });\n';
  await write("ab.ts", head + agents.replace("HANDOFF", '"b"') + rest + config);
  expect((await run("workflows", "put", "ab.ts")).stdout).toMatch(/^ab is now version 1 .* with 2 agents/);
  await write("closed.ts", head + agents.replace("HANDOFF", 'handoff("b", { context: () => [] })') + rest + config);
  await write("one.ts", `${head}export default defineWorkflow({ name: "alone", agents: ["echo"] });\n`);
  expect((await run("workflows", "put", "one.ts")).stdout).toMatch(/^alone is now version 1/);
  const refused = await run("workflows", "put", "closed.ts");
  expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining("agents.a.handoffs[0].context") });
});

test("workflows and runs are drawn, as a flowchart where it is no terminal", async () => {
  const workflow = await run("workflows", "graph", "phone");
  expect(workflow.stdout.split("\n")).toEqual([
    "flowchart TD",
    '  n1["first<br/>entry"]',
    '  n2["echo"]',
    "  n1 --> n2",
    "",
  ]);
  expect((await run("workflows", "graph", "repeat", "--format", "tree")).stdout).toBe(
    "repeat (version 1)\n└─ echo\n   └─ loud\n",
  );
  expect((await run("run", "repeat", "tea", "--run-id", "drawn")).code).toBe(0);
  const drawn = await run("runs", "graph", "drawn", "--format", "tree");
  expect(drawn.stdout).toBe("repeat · run drawn · completed\n└─ echo  completed\n   └─ loud  completed\n");
  expect((await run("runs", "graph", "drawn")).stdout).toContain("class n1,n2 completed");
});
