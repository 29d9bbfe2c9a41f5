import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { renderOptionsTable } from "../../../src/runtime/config/options-table.ts";

it("docs/configuration.md holds the table of options as it is now", async () => {
  const page = await readFile(new URL("../../../docs/configuration.md", import.meta.url), "utf8");
  const [, table] = /<!-- options -->\n([\s\S]*?)\n<!-- \/options -->/.exec(page) ?? [];
  expect(table).toBe(renderOptionsTable());
});
