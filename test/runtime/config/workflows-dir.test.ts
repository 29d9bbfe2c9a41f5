import { mkdir, mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { type DefinitionError, describeProblem } from "../../../src/errors.ts";
import { createWorkflow } from "../../../src/runtime/config/create-workflow.ts";
import { checkConfig } from "../../../src/runtime/config/load-config.ts";
import { registeredWorkflows, registerWorkflow } from "../../../src/runtime/config/workflow-registry.ts";
import { withWorkflowsDir } from "../../../src/runtime/config/workflows-dir.ts";
import { writtenOf } from "../../../src/workflows/written-workflow.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-dir-"));
});
afterEach(() => rm(dir, { recursive: true }));

const SOURCE = new URL("../../../src/index.ts", import.meta.url).href;
const write = (name: string, text: string) => writeFile(join(dir, name), text.replaceAll("TROUPE", SOURCE));
const load = async () => {
  const agents = { writer: { instructions: "Write.", model: "any" } };
  return withWorkflowsDir(await checkConfig({ agents }, { fileName: "troupe.yaml", dir }), dir);
};
const problemsIn = (error: unknown) =>
  (error as DefinitionError).problems.map((problem) =>
    describeProblem(problem).replaceAll(/[^ ]*troupe-dir-\w+\//g, ""),
  );

describe("a folder of definitions", () => {
  it("adds what its files say, in all their forms, and agents may be named across them", async () => {
    await write(
      "team.yaml",
      "agents:\n  editor: { instructions: E., model: any, handoffs: [critic] }\nworkflows:\n  ab: { agents: [writer, editor] }\n",
    );
    await write("critics.json", JSON.stringify({ agents: { critic: { instructions: "C.", model: "any" } } }));
    await write("single.yml", "steps:\n  - { id: one, agent: critic }\n");
    await write(
      "talk.ts",
      `import { defineWorkflow } from "TROUPE";\nexport default defineWorkflow({ name: "chat", agents: ["editor"] });\n`,
    );
    await write(
      "made.ts",
      `import { defineAgent, registerWorkflow } from "TROUPE";
const maker = defineAgent({ name: "maker", instructions: "M.", model: "any" });
registerWorkflow("made", () => ({ agents: [maker, "writer"] }), { description: "Made.", agents: [maker] });\n`,
    );
    await write("helper.ts", "export const nothing = 1;\n");
    await write("_draft.yaml", "steps: nonsense\n");
    await mkdir(join(dir, "sub"));
    const { agents, workflows } = await load();
    expect([...agents.keys()].sort()).toEqual(["critic", "editor", "maker", "writer"]);
    expect([...workflows.keys()].sort()).toEqual(["ab", "chat", "made", "single"]);
    expect(workflows.get("made")).toMatchObject({
      description: "Made.",
      steps: [{ agent: "maker" }, { agent: "writer" }],
    });
  });

  it("tells the mistakes of all its files at once, each with its file and line", async () => {
    await write(
      "a.yaml",
      "agents:\n  writer: { instructions: x, model: y }\nworkflows:\n  one: { agents: [nobody] }\n",
    );
    await write("b.yaml", "steps:\n  - { id: s, agent: writer, colour: red }\n");
    await write("c.yaml", "name: one\nagents: [writer]\n");
    await write("d.yaml", "workflows: {}\ndaemon: { beatMs: 1 }\nschedules: {}\n");
    await write("e.json", "{");
    const error = await load().catch((thrown: unknown) => thrown);
    expect(problemsIn(error).sort()).toEqual([
      'a.yaml:2: agents.writer: expected a name that no other agent has, got "writer"',
      'a.yaml:4: workflows.one.agents[0]: expected an agent\'s name: writer, got "nobody"',
      expect.stringMatching(/^b.yaml:2: steps\[0\].colour: expected one of the keys .* got "red"$/),
      "d.yaml:2: daemon: expected agents and workflows alone; this belongs into the configuration, got the section `daemon`",
      "d.yaml:3: schedules: expected agents and workflows alone; this belongs into the configuration, got the section `schedules`",
      expect.stringMatching(/^e.json: the file: expected valid JSON, got /),
    ]);
  });

  it("keeps the name of a schedule of the configuration from a workflow that has its own", async () => {
    const writer = { instructions: "Write.", model: "any" };
    const schedules = { nightly: { workflow: "base", cron: "@daily" } };
    const base = { agents: { writer }, workflows: { base: { agents: ["writer"] } }, schedules };
    const config = await checkConfig(base, { fileName: "troupe.yaml", dir });
    await write("nightly.yaml", "agents: [writer]\n");
    expect((await withWorkflowsDir(config, dir)).workflows.has("nightly")).toBe(true);
    await write("nightly.yaml", "agents: [writer]\nschedule: { everyMs: 5000 }\n");
    expect(problemsIn(await withWorkflowsDir(config, dir).catch((thrown: unknown) => thrown))).toEqual([
      'nightly.yaml:2: schedule: expected a name that no other schedule has, got "nightly"',
    ]);
  });

  it("gives a module that has changed as it is now, and one that has not the same once more", async () => {
    const module = (step: string) =>
      `import { registerWorkflow } from "TROUPE";\nregisterWorkflow("again", () => ({ steps: [{ id: "${step}", agent: "writer" }] }));\n`;
    await write("again.ts", module("first"));
    expect((await load()).workflows.get("again")).toMatchObject({ steps: [{ id: "first" }] });
    expect((await load()).workflows.get("again")).toMatchObject({ steps: [{ id: "first" }] });
    await write("again.ts", module("second"));
    await utimes(join(dir, "again.ts"), 1, 1);
    expect((await load()).workflows.get("again")).toMatchObject({ steps: [{ id: "second" }] });
  });
});

describe("createWorkflow", () => {
  const poet = defineAgent({ name: "poet", instructions: "P.", model: "any" });

  it("makes a registered workflow with what its factory is given", async () => {
    registerWorkflow<{ rounds: number }>(
      "rounds",
      ({ rounds } = { rounds: 1 }) => ({ agents: Array.from({ length: rounds }, () => poet) }),
      { description: "Again and again.", agents: [poet] },
    );
    const { workflow, agents } = await createWorkflow("rounds", { with: { rounds: 3 } });
    expect(workflow).toMatchObject({ name: "rounds", description: "Again and again.", steps: [{}, {}, {}] });
    expect(agents).toEqual([poet]);
    expect(registeredWorkflows()).toContainEqual(expect.objectContaining({ name: "rounds" }));
    await expect(createWorkflow("unheard_of")).rejects.toThrow(
      /expected a registered workflow \(.*rounds.*\) or a file, got "unheard_of"/,
    );
  });

  it("makes a chain of agents", async () => {
    const { workflow, agents } = await createWorkflow([poet, "critic", poet]);
    expect(workflow).toMatchObject({
      name: "poet-critic-poet",
      steps: [{ id: "poet" }, { id: "critic" }, { id: "poet-2" }],
    });
    expect(agents).toEqual([poet]);
  });

  it("makes what a file says, and wants a name where it says several", async () => {
    await write("one.yaml", "agents: [poet]\n");
    expect((await createWorkflow("one.yaml", { dir })).workflow).toMatchObject({
      name: "one",
      steps: [{ agent: "poet" }],
    });
    await write(
      "two.yaml",
      "agents: { a: { instructions: A., model: any } }\nworkflows: { x: { agents: [a] }, y: { agents: [a] } }\n",
    );
    const { workflow, agents } = await createWorkflow("two.yaml", { dir, name: "y" });
    expect(workflow.name).toBe("y");
    expect(agents.map(({ name }) => name)).toEqual(["a"]);
    expect(writtenOf(workflow)).toEqual({ agents: ["a"] });
    await expect(createWorkflow("two.yaml", { dir })).rejects.toThrow(
      "expected a file with one workflow, or `name`, got x, y",
    );
    await write("bad.yaml", "steps: []\n");
    await expect(createWorkflow("bad.yaml", { dir })).rejects.toThrow("bad.yaml:1: steps: expected at least 1 entry");
  });
});
