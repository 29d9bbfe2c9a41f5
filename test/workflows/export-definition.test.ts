import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { defineAgent } from "../../src/actors/define-agent.ts";
import { defineTool } from "../../src/actors/define-tool.ts";
import { handoff } from "../../src/actors/handoff.ts";
import { DefinitionError } from "../../src/errors.ts";
import { toDefinitionFile } from "../../src/runtime/config/definition-text.ts";
import { readDefinitions } from "../../src/runtime/config/read-definitions.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import { exportDefinition } from "../../src/workflows/export-definition.ts";

const search = defineTool({
  name: "search",
  description: "Searches.",
  parameters: z.object({ q: z.string() }),
  execute: () => "",
});
const writer = defineAgent({
  name: "writer",
  instructions: "Write.",
  model: "any",
  tools: [search],
  settings: { temperature: 0.2 },
  maxTurns: 3,
  output: z.object({ title: z.string().min(1), words: z.number().int().optional() }),
});
const critic = defineAgent({
  name: "critic",
  description: "Judges.",
  instructions: "Judge.",
  model: "any",
  handoffs: [handoff(writer, { context: "last", input: z.object({ why: z.string() }) })],
});
const team = [writer, critic];

const WORKFLOWS = [
  defineWorkflow({ name: "chain", agents: team, input: z.object({ topic: z.string() }), version: 3 }),
  defineWorkflow({
    name: "branches",
    description: "Goes one way or another.",
    timeoutMs: 60_000,
    steps: [
      { id: "judge", agent: critic, switch: { on: "steps.judge.output", cases: { good: "praise" }, default: "write" } },
      { id: "write", agent: writer, onError: "praise", retry: { maxAttempts: 3, delayMs: 40_000 } },
      { id: "praise", agent: "somebody", when: "input != ''", input: { about: ["{{ input }}"] } },
      { id: "end", agent: critic, after: ["write", "praise"], needs: "always" },
    ],
  }),
  defineWorkflow({
    name: "loops",
    concurrency: 10,
    schedule: { cron: "0 3 * * *", timezone: "Europe/Berlin", input: { agent: "nobody" }, paused: true },
    steps: [
      {
        id: "books",
        forEach: "input.books",
        concurrency: 4,
        steps: [
          { id: "draft", agent: writer, input: "{{ item.title }} {{ index }}", retry: { maxAttempts: 2 } },
          {
            id: "polish",
            after: "draft",
            repeat: { until: "output.score > 0.8", max: 5 },
            steps: [
              { id: "judge", agent: critic, onError: "continue" },
              { id: "mend", agent: "somebody", after: "judge", when: "index < 3" },
            ],
          },
        ],
      },
      { id: "last", agent: writer, after: "books" },
    ],
  }),
  defineWorkflow({ name: "handover", entry: critic, agents: team, maxVisits: 2 }),
];

describe("a definition made in TypeScript", () => {
  it.each(["yaml", "json"] as const)("comes back from %s with the same hash, and so do its agents", (format) => {
    const file: unknown = parse(toDefinitionFile(WORKFLOWS, team, format));
    const read = readDefinitions(file as object, {
      tools: new Map([["search", search]]),
      modelFor: () => undefined,
      known: new Map([["somebody", defineAgent({ name: "somebody", remote: true })]]),
    });
    expect(read.problems).toEqual([]);
    for (const workflow of WORKFLOWS) expect(read.workflows.get(workflow.name)).toEqual(workflow);
    const { output: _asZod, ...rest } = writer;
    const { output, ...again } = read.agents.get("writer") ?? writer;
    expect(again).toEqual(rest);
    expect(output).toMatchObject({ required: ["title"], additionalProperties: false });
  });

  it("takes along the agents it names and no others", () => {
    const spare = defineAgent({ name: "spare", instructions: "Wait.", model: "any" });
    expect(Object.keys(exportDefinition(WORKFLOWS, [...team, spare]).agents)).toEqual(["writer", "critic"]);
  });

  it("leaves out what is a default", () => {
    const plain = defineAgent({ name: "plain", instructions: "Be.", model: "any" });
    const file = exportDefinition(defineWorkflow({ name: "short", agents: [plain] }), [plain]);
    expect(file).toEqual({
      agents: { plain: { instructions: "Be.", model: "any" } },
      workflows: { short: { agents: ["plain"] } },
    });
  });

  it("is refused with the place of every function, and of all that JSON Schema cannot say", () => {
    const closed = defineAgent({
      name: "closed",
      instructions: "Close.",
      model: "any",
      apiKey: "secret",
      handoffs: [handoff("other", { context: () => [] })],
      output: z.object({
        list: z.array(z.object({ n: z.number().refine((n) => n % 2 === 0) })),
        word: z.string().trim(),
      }),
    });
    const other = defineAgent({ name: "other", instructions: "Open.", model: "any" });
    const workflow = defineWorkflow({
      name: "shut",
      entry: closed,
      agents: [closed, other],
      input: z.object({ even: z.number() }).refine(({ even }) => even % 2 === 0),
    });
    const problems = problemsOf(() => exportDefinition(workflow, [closed, other]));
    expect(problems.map(({ path, got }) => `${path}: ${got}`).sort()).toEqual([
      "agents.closed.apiKey: an API key",
      "agents.closed.handoffs[0].context: a function, which no file can hold",
      "agents.closed.output: a check that changes the value of word",
      "agents.closed.output: a refinement of list[].n",
      "workflows.shut.input: a refinement",
    ]);
  });

  it("is asked for itself, not for a copy, which has lost what it was written as", () => {
    const copy = { ...defineWorkflow({ name: "short", agents: ["plain"] }) };
    expect(problemsOf(() => exportDefinition(copy))).toMatchObject([{ got: "a copy of one" }]);
  });
});

function problemsOf(make: () => unknown) {
  try {
    make();
  } catch (error) {
    if (error instanceof DefinitionError) return error.problems;
    throw error;
  }
  throw new Error("expected problems, got none");
}
