import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import * as testing from "../../src/testing/index.ts";
import { startOpenAIServer } from "../helpers/openai-server.ts";
import { outputOf, projectFolder } from "../helpers/run-program.ts";

const page = await readFile(new URL("../../docs/testing.md", import.meta.url), "utf8");
const [scripted, recording, transcript] = blocks("ts") as [string, string, string];

describe("docs/testing.md", () => {
  it("shows a script that passes", async () => {
    expect(await outputOf(scripted)).toBe("");
  });

  it("shows a transcript as it is", async () => {
    expect(await outputOf(transcript)).toBe("");
  });

  it("shows a recording that is replayed without the provider, the file it makes, and what is said where it does not fit", async () => {
    const dir = await projectFolder();
    const server = await startOpenAIServer({ reply: "Tea is a habit.", apiKey: "sk-a-key-for-the-test-only" });
    try {
      const env = { OPENAI_API_KEY: "sk-a-key-for-the-test-only", OPENAI_BASE_URL: server.url };
      await outputOf(recording, { dir, env: { ...env, RECORD: "1" } });
      expect(server.calls).toHaveLength(1);
      await server.close();
      await outputOf(recording, { dir });

      const file = await readFile(join(dir, "cassettes/tea.yaml"), "utf8");
      expect(file.replace(/^#.*\n/, "")).toBe(blocks("yaml")[0]);
      expect(file).not.toContain("sk-a-key");

      const other = recording.replace('run("sentence", "tea")', 'run("sentence", "coffee")');
      const failure = await outputOf(other, { dir }).catch((error: { stderr: string }) => error.stderr);
      for (const line of blocks("")[0]?.trim().split("\n") ?? []) expect(failure).toContain(line.trim());
    } finally {
      await server.close();
      await rm(dir, { recursive: true });
    }
  });

  it("names everything that troupe/testing has", () => {
    expect(Object.keys(testing).filter((name) => !page.includes(name))).toEqual([]);
  });
});

/** The code blocks in a language, also those within a list. */
function blocks(language: string): string[] {
  return [...page.matchAll(/^( *)```(\w*)\n(.*?)^ *```$/gms)].flatMap(([, indent = "", found, text = ""]) =>
    found === language ? [text.replaceAll(new RegExp(`^${indent}`, "gm"), "")] : [],
  );
}
