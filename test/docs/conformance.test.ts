import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { conformanceChecks } from "../../src/runtime/conformance/check-worker.ts";

const text = await readFile(new URL("../../docs/protocol.md", import.meta.url), "utf8");

describe("docs/protocol.md", () => {
  it.each(conformanceChecks.map(({ id, place }) => ({ id, ...place })))(
    "says under $heading what the check $id expects",
    ({ heading, says }) => {
      expect(onOneLine(sectionOf(heading))).toContain(onOneLine(says));
    },
  );

  it("has every check of `troupe conformance`, and no other, with what it needs", () => {
    const rows = [...sectionOf("Checking a worker").matchAll(/^\| `([a-z-]+)` \| .* \| (.*?) ?\|$/gm)];
    expect(rows.map(([, id]) => id)).toEqual(conformanceChecks.map(({ id }) => id));
    const slow = rows.filter(([, , needs]) => needs === "`--slow-input`").map(([, id]) => id);
    expect(slow).toEqual(["working", "rejoined", "owners-at-work", "known", "cancel"]);
  });

  it("says how many checks there are", () => {
    expect(sectionOf("Checking a worker")).toContain(`Conforms: ${conformanceChecks.length} checks passed.`);
  });
});

/** What stands under a heading, up to the next one of any depth. */
function sectionOf(heading: string): string {
  const found = text.split(/^(?=#+ )/m).find((part) => part.replace(/^#+ /, "").startsWith(`${heading}\n`));
  if (found === undefined) throw new Error(`docs/protocol.md: expected a heading ${JSON.stringify(heading)}, got none`);
  return found;
}

function onOneLine(words: string): string {
  return words.replaceAll(/\s+/g, " ");
}
