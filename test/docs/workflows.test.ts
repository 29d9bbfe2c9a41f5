import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { parseWorkflow } from "../../src/workflows/parse-definition.ts";

const page = await readFile(new URL("../../docs/workflows.md", import.meta.url), "utf8");
const blocks = [...page.matchAll(/```yaml\n(.*?)```/gs)].flatMap(([, text = ""]) => {
  const { workflows, schedules: _declared, ...bare } = parse(text) as { [name: string]: unknown };
  return Object.entries({ ...bare, ...(workflows as object | undefined) });
});

describe("docs/workflows.md", () => {
  it.each(blocks)("has nothing wrong in %s", (name, raw) => {
    expect(parseWorkflow(name, raw, { agents: new Map(), open: true }).problems).toEqual([]);
  });

  it("has workflows", () => expect(blocks.length).toBeGreaterThan(3));
});
