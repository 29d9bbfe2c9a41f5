import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { validateOutput } from "../../../src/actors/schemas.ts";
import { configJsonSchema, renderConfigSchema } from "../../../src/runtime/config/config-schema.ts";
import { CLI_FILES } from "../../cli/cli-files.ts";

const root = new URL("../../../", import.meta.url);
const schema = configJsonSchema();

/** The places a schema complains about. */
function complaints(file: unknown): string[] {
  const checked = validateOutput(schema, file);
  return checked.ok ? [] : checked.problems;
}

const agent = { instructions: "x", model: "y" };

describe("the JSON Schema of configuration files", () => {
  it("is published as it is now; `troupe schema > schema/troupe.schema.json` makes it anew", async () => {
    expect(await readFile(new URL("schema/troupe.schema.json", root), "utf8")).toBe(renderConfigSchema());
    const { files } = JSON.parse(await readFile(new URL("package.json", root), "utf8")) as { files: string[] };
    expect(files).toContain("schema");
  });

  it.each([
    ["examples/troupe.yaml", async () => parse(await readFile(new URL("examples/troupe.yaml", root), "utf8"))],
    ["a file of another test", async () => parse(CLI_FILES["troupe.yaml"])],
    ["an empty file", async () => ({ agents: null, workflows: null, daemon: null })],
    [
      "options with units",
      async () => ({ daemon: { beatMs: "1s", retentionBytes: "1GiB", nats: "nats://a:1", agents: ["a"] } }),
    ],
    [
      "groups, lists and loops",
      async () => {
        const loop = { id: "b", repeat: { until: "true", max: 2 }, steps: [{ id: "c", agent: "a" }] };
        const list = { id: "a", forEach: "input", concurrency: 3, steps: [loop] };
        return { workflows: { w: { concurrency: 5, steps: [list] } } };
      },
    ],
    [
      "schedules",
      async () => {
        const schedule = { cron: "0 3 * * *", timezone: "UTC", missed: "skip" };
        const workflows = { chain: { agents: ["a"], schedule }, team: { entry: "a", agents: ["a"], schedule } };
        return { workflows, schedules: { nightly: { ...schedule, workflow: "team" } } };
      },
    ],
  ])("lets through %s", async (_what, read) => {
    expect(complaints(await read())).toEqual([]);
  });

  it.each([
    ["a section that is misspelt", { worklfows: {} }],
    ["a key of an agent", { agents: { a: { ...agent, instruction: "x" } } }],
    ["a wrong type", { agents: { a: { ...agent, maxTurns: "many" } } }],
    [
      "a context that only TypeScript can have",
      { agents: { a: { ...agent, handoffs: [{ to: "b", context: "some" }] } } },
    ],
    ["a key of a step", { workflows: { w: { steps: [{ id: "a", agent: "a", atfer: "b" }] } } }],
    ["a step without an id", { workflows: { w: { steps: [{ agent: "a" }] } } }],
    ["a key of a step in a group", { workflows: { w: { steps: [{ id: "a", steps: [{ id: "b", agnet: "a" }] }] } } }],
    ["a loop without an end", { workflows: { w: { steps: [{ id: "a", agent: "a", repeat: { until: "true" } }] } } }],
    ["a key of a schedule", { schedules: { s: { workflow: "w", corn: "@daily" } } }],
    ["a handoff workflow without agents", { workflows: { w: { entry: "a" } } }],
    ["an option that there is not", { daemon: { beat: 1 } }],
    ["a word an option does not know", { daemon: { logLevel: "loud" } }],
  ])("complains about %s", (_what, file) => {
    expect(complaints(file)).not.toEqual([]);
  });
});

it("examples/troupe.yaml tells editors of the schema", async () => {
  const text = await readFile(new URL("examples/troupe.yaml", root), "utf8");
  expect(text).toMatch(/^# yaml-language-server: \$schema=\.\.\/schema\/troupe\.schema\.json$/m);
});
