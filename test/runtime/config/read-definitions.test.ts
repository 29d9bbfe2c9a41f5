import { expect, test } from "vitest";
import { z } from "zod";
import { defineTool } from "../../../src/actors/define-tool.ts";
import { readDefinitions } from "../../../src/runtime/config/read-definitions.ts";

const load = defineTool({ name: "load", description: "Loads.", parameters: z.object({}), execute: () => 1 });
const context = { tools: new Map([["load", load]]), modelFor: () => undefined, known: new Map() };
const problemsOf = (step: object) =>
  readDefinitions({ workflows: { etl: { steps: [{ id: "a", ...step }] } } }, context).problems.map(
    ({ path, expected, got }) => `${path}: expected ${expected}, got ${got}`,
  );

test("a step may run a tool that no agent has, and be undone by one", () => {
  expect(problemsOf({ tool: "load", compensate: { tool: "load" } })).toEqual([]);
});

test("a step cannot run a tool that there is not", () => {
  expect(problemsOf({ tool: "laod" })).toEqual([
    'workflows.etl.steps[0].tool: expected a tool\'s name: load, got "laod"',
  ]);
});
