import { globSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

const INTRO = `# Examples

Each is one program: agents, workflows, a daemon and a client. \`node examples/<name>.ts\` runs it, with a script in place of the
model where no \`OPENAI_API_KEY\` is set; what it prints then stands here. This page is made of the examples themselves:
\`npx vitest run test/docs/examples-page.test.ts -u\` makes it anew.
`;

it("docs/examples.md has every example with what it prints", async () => {
  const paths = globSync("examples/*.ts", { cwd: root }).sort();
  const sections = await Promise.all(paths.map(section));
  await expect([INTRO, ...sections.filter((text) => text !== undefined)].join("\n")).toMatchFileSnapshot(
    join(root, "docs/examples.md"),
  );
});

/** What an example says of itself, and what it prints; undefined for modules that print nothing. */
async function section(path: string): Promise<string | undefined> {
  const text = await readFile(join(root, path), "utf8");
  const [, about] = /^\/\*\*\n \* (.*?)\n \*\n/s.exec(text) ?? [];
  const [, output] = /\n\n((?:\/\/.*\n)+)$/.exec(text) ?? [];
  if (about === undefined || output === undefined) return undefined;
  const printed = output.replaceAll(/^\/\/ ?/gm, "");
  return `## ${basename(path, ".ts")}\n\n${about.replaceAll("\n * ", "\n")} ([source](../${path}))\n\n\`\`\`\n${printed}\`\`\`\n`;
}
