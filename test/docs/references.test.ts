import { existsSync, globSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const pages = globSync(["*.md", "docs/*.md"], { cwd: root });

describe.each(pages)("%s", (page) => {
  it("leads only to files and headings that exist", async () => {
    const links = [...(await textOf(page)).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)/g)];
    for (const [link, file = "", heading] of links) {
      const target = file === "" ? page : join(dirname(page), file);
      expect(existsSync(join(root, target)), `${link} in ${page}`).toBe(true);
      if (heading) expect(headingsIn(await textOf(target)), `${link} in ${page}`).toContain(heading);
    }
  });

  it("names only sources that exist", async () => {
    const named = (await textOf(page)).matchAll(/`((?:src|test|examples|scripts|bench|bin|docs)\/[\w./*-]*)`/g);
    const missing = [...named].flatMap(([, path = ""]) => (globSync(path, { cwd: root }).length > 0 ? [] : [path]));
    expect(missing).toEqual([]);
  });
});

it("ARCHITECTURE.md names only files that exist, also without their folder", async () => {
  const files = new Set(
    globSync("{src,test}/**/*.ts", { cwd: root }).map((path) => path.slice(path.lastIndexOf("/") + 1)),
  );
  const named = [...(await textOf("ARCHITECTURE.md")).matchAll(/`([a-z-]+\.ts)`/g)].map(([, name]) => name as string);
  expect(named.length).toBeGreaterThan(20);
  // It speaks of one that must not be.
  expect(named.filter((name) => !files.has(name) && name !== "types.ts")).toEqual([]);
});

function textOf(page: string): Promise<string> {
  return readFile(join(root, page), "utf8");
}

/** Headings as links name them. */
function headingsIn(markdown: string): string[] {
  const headings = [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, text]) => text as string);
  return headings.map((text) =>
    text
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, "")
      .replaceAll(" ", "-"),
  );
}
