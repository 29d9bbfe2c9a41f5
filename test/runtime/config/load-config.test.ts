import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { DefinitionError, UsageError } from "../../../src/errors.ts";
import { loadConfig } from "../../../src/runtime/config/load-config.ts";

const ROOT = join(import.meta.dirname, "../../..");
const source = (path: string) => JSON.stringify(pathToFileURL(join(ROOT, "src", path)).href);
const DEFINE = `
import { z } from "${pathToFileURL(join(ROOT, "node_modules/zod/index.js")).href}";
import { defineTool } from ${source("actors/define-tool.ts")};
import { defineAgent } from ${source("actors/define-agent.ts")};
import { defineWorkflow } from ${source("workflows/define-workflow.ts")};
import { defineConfig } from ${source("runtime/config/define-config.ts")};
`;

async function project(files: { [name: string]: string }) {
  const dir = await mkdtemp(join(tmpdir(), "troupe-config-"));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(dir, name, ".."), { recursive: true });
    await writeFile(join(dir, name), text);
  }
  return { dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) };
}

async function problemsOf(files: { [name: string]: string }, path?: string): Promise<string[]> {
  await using made = await project(files);
  try {
    await loadConfig(path, made.dir);
    return [];
  } catch (error) {
    if (error instanceof DefinitionError) return error.message.split("\n");
    throw error;
  }
}

const GOOD = `
agents:
  researcher: { instructions: Research., model: gpt-5-mini, tools: [search] }
  writer: { instructions: Write., model: gpt-5-mini, handoffs: [researcher, { to: editor, context: last }] }
  editor: { instructions: Edit., model: gpt-5-mini, provider: local, output: { type: object } }
tools:
  search: { module: ./tools.ts }
providers:
  local: { baseURL: "http://127.0.0.1:1234/v1" }
workflows:
  article: { agents: [researcher, writer, editor] }
  chat: { kind: handoff, entry: writer, agents: [writer, researcher, editor] }
daemon: { suspectAfterMs: 3s }
`;
const TOOLS = `${DEFINE}
export const search = defineTool({ name: "search", description: "Searches.", parameters: z.object({}), execute: () => "" });
export const other = 3;
`;

describe("loadConfig", () => {
  it("a YAML file gives agents with their tools, workflows, providers and options", async () => {
    await using made = await project({ "troupe.yaml": GOOD, "tools.ts": TOOLS });
    const config = await loadConfig(undefined, made.dir);
    expect(config).toMatchObject({ fileName: "troupe.yaml", dir: made.dir, daemon: { suspectAfterMs: "3s" } });
    expect([...config.agents.keys()]).toEqual(["researcher", "writer", "editor"]);
    expect(config.agents.get("researcher")?.tools.map(({ name }) => name)).toEqual(["search"]);
    expect([...config.workflows.values()].map(({ name, kind }) => `${name} ${kind}`)).toEqual([
      "article deterministic",
      "chat handoff",
    ]);
    expect(config.providers).toEqual({ local: { baseURL: "http://127.0.0.1:1234/v1" } });
  });

  it("models with a provider that is not there, or cannot do what is asked, and prices are told with their lines", async () => {
    const file = [
      "providers:",
      "  hosted: { baseURL: 'http://127.0.0.1:1/v1', api: responses }",
      "prices:",
      "  m: { input: 1, output: -2 }",
      "agents:",
      "  writer:",
      "    instructions: Write.",
      "    model:",
      "      - { model: a, provider: hosted, seed: 1 }",
      "      - { model: b, provider: locl }",
      "  editor: { instructions: Edit., model: [m, n], provider: hosted, settings: { seed: 7 } }",
      "  critic: { instructions: Judge., model: m, settings: { reasoningSummary: auto } }",
    ];
    expect(await problemsOf({ "troupe.yaml": file.join("\n") })).toEqual([
      "troupe.yaml:4: prices.m.output: expected a number of at least 0, got -2",
    ]);
    expect(await problemsOf({ "troupe.yaml": file.join("\n").replace("-2", "2") })).toEqual([
      "troupe.yaml:9: agents.writer.model[0].seed: expected none, because provider hosted has api: responses, got 1",
      'troupe.yaml:10: agents.writer.model[1].provider: expected the name of a provider: one of openai, hosted, got "locl"',
      "troupe.yaml:11: agents.editor.settings.seed: expected none, because provider hosted has api: responses, got 7",
      'troupe.yaml:12: agents.critic.settings.reasoningSummary: expected none, because provider openai has api: chat, got "auto"',
    ]);
  });

  it("everything wrong in a file is told at once, each with its line", async () => {
    const file = [
      "agents:",
      "  writer:",
      "    instructions: Write.",
      "    model: []",
      "    tools: [search]",
      "  editor: { instructions: Edit., model: m, handoffs: [wirter], provider: locl }",
      "workflows:",
      "  article:",
      "    steps:",
      "      - { id: a, agent: writer }",
      "      - id: b",
      "        agent: editr",
      "        after: [a, c]",
      "  loop: { kind: code }",
      "daemon: { beatMs: soon, suspectAftrMs: 3 }",
      "wrokflows: {}",
    ];
    expect(await problemsOf({ "troupe.yaml": file.slice(0, -1).join("\n") })).toEqual([
      `troupe.yaml:4: agents.writer.model: expected at least 1 entry, got []`,
      'troupe.yaml:5: agents.writer.tools[0]: expected the name of a tool from the section `tools`, which has none, got "search"',
      `troupe.yaml:6: agents.editor.handoffs[0]: expected the name of an agent: one of writer, editor, got "wirter"`,
      `troupe.yaml:6: agents.editor.provider: expected the name of a provider: openai, got "locl"`,
      `troupe.yaml:12: workflows.article.steps[1].agent: expected an agent's name: one of editor, writer, got "editr"`,
      `troupe.yaml:13: workflows.article.steps[1].after[1]: expected the id of another step (a), got "c"`,
      `troupe.yaml:14: workflows.loop.kind: expected one of "deterministic", "handoff", got "code"`,
      `troupe.yaml:15: daemon.suspectAftrMs: expected the key of an option (did you mean suspectAfterMs?), got "suspectAftrMs"`,
      `troupe.yaml:15: daemon.beatMs: expected a duration such as 2500, 2.5s, 1m, 1h or 7d, from 10 to 2147483647 ms, got "soon"`,
    ]);
    expect(await problemsOf({ "troupe.yaml": file.join("\n") })).toEqual([
      "troupe.yaml:16: wrokflows: expected one of the keys agents, tools, mcpServers, providers, prices, workflows, schedules, daemon, got {}",
    ]);
  });

  it("what is missing has the line of what it is missing from", async () => {
    const file = "agents:\n  a:\n    model: m\n  b: { model: m, instructions: x }\n";
    expect(await problemsOf({ "troupe.yaml": file })).toEqual([
      "troupe.yaml:2: agents.a.instructions: expected text (only remote agents do without), got nothing",
    ]);
  });

  it("a file that is not what its name says is one problem with its place", async () => {
    expect((await problemsOf({ "troupe.yaml": "agents:\n  a: [1\nb: 2" }))[0]).toMatch(
      /^troupe\.yaml:\d+: column \d+: expected valid YAML/,
    );
    expect((await problemsOf({ "troupe.json": "{,}" }))[0]).toMatch(
      /^troupe\.json: the file: expected valid JSON, got /,
    );
    expect(await problemsOf({ "troupe.yaml": "" })).toEqual(["troupe.yaml: the file: expected an object, got null"]);
    expect((await problemsOf({ "troupe.ts": "throw new Error('no luck')" }))[0]).toBe(
      "troupe.ts: the file: expected a module that can be imported, got no luck",
    );
    expect((await problemsOf({ "troupe.ts": "export const a = 1" }))[0]).toContain("expected a default export");
    expect((await problemsOf({ "my.toml": "" }, "my.toml"))[0]).toContain(`got ".toml"`);
  });

  it("JSON is read like YAML, with lines", async () => {
    const file = `{\n  "agents": {\n    "a": { "instructions": "x", "model": "m", "maxTurns": 0 }\n  }\n}`;
    expect(await problemsOf({ "troupe.json": file })).toEqual([
      "troupe.json:3: agents.a.maxTurns: expected a number of at least 1, got 0",
    ]);
  });

  it("TypeScript gives agents and workflows made with define", async () => {
    const file = `${DEFINE}
      const writer = defineAgent({ name: "writer", instructions: "Write.", model: "m", output: z.object({ text: z.string() }) });
      const model = { provider: "mine", call: async () => { throw new Error("never"); } };
      export default defineConfig({
        agents: [writer],
        workflows: [defineWorkflow({ name: "article", agents: [writer, "writer"] })],
        providers: { mine: model },
        daemon: { beatMs: 100 },
      });`;
    await using made = await project({ "conf/troupe.ts": file });
    const config = await loadConfig("conf/troupe.ts", made.dir);
    expect(config.agents.get("writer")?.output).toHaveProperty("safeParse");
    expect(config.workflows.get("article")).toMatchObject({ steps: [{ id: "writer" }, { id: "writer-2" }] });
    expect(config).toMatchObject({
      fileName: join("conf", "troupe.ts"),
      dir: join(made.dir, "conf"),
      daemon: { beatMs: 100 },
    });
  });

  it("TypeScript has to list the agents its workflows name, and each once", async () => {
    const file = `${DEFINE}
      const writer = defineAgent({ name: "writer", instructions: "Write.", model: "m" });
      export default defineConfig({ agents: [writer, writer], workflows: [defineWorkflow({ name: "a", agents: ["editor"] })] });`;
    expect(await problemsOf({ "troupe.ts": file })).toEqual([
      `troupe.ts: agents[1].name: expected a name no other one has, got "writer"`,
      `troupe.ts: workflows.a.steps[0].agent: expected an agent's name: writer, got "editor"`,
    ]);
  });

  it("what define refuses while the file is imported names the file", async () => {
    const file = `${DEFINE} export default defineConfig({ agents: [defineAgent({ name: "writer", model: "m" })] });`;
    expect(await problemsOf({ "troupe.ts": file })).toEqual([
      "troupe.ts: agents.writer.instructions: expected text (only remote agents do without), got nothing",
    ]);
  });

  it("MCP servers are read, and an agent that refers to another one is told so", async () => {
    const file = `agents:
  clerk: { instructions: x, model: m, mcp: [files.read_*, file] }
mcpServers:
  files: { command: npx }`;
    expect(await problemsOf({ "troupe.yaml": file })).toEqual([
      'troupe.yaml:2: agents.clerk.mcp[1]: expected an MCP server: files, got "file"',
    ]);
    await using made = await project({ "troupe.yaml": file.replace(", file]", "]") });
    const config = await loadConfig(undefined, made.dir);
    expect(config.agents.get("clerk")?.mcp).toEqual(["files.read_*"]);
    expect(config.mcpServers.get("files")).toMatchObject({ reach: { by: "process", cwd: made.dir } });
  });

  it("tools that cannot be had say why", async () => {
    const file = `tools:
  search: { module: ./tools.ts, export: other }
  gone: { module: ./gone.ts }
  find: { module: ./tools.ts, export: search }
  odd: { path: x }
`;
    expect(await problemsOf({ "troupe.yaml": file, "tools.ts": TOOLS })).toEqual([
      "troupe.yaml:2: tools.search.module: expected a module that exports a tool made with defineTool as other, " +
        "got ./tools.ts with other, search",
      expect.stringMatching(
        /^troupe\.yaml:3: tools\.gone\.module: expected a module that can be imported, got .*gone\.ts/,
      ),
      `troupe.yaml:4: tools.find: expected a tool named "find", got "search"`,
      "troupe.yaml:5: tools.odd.module: expected text, got nothing",
      `troupe.yaml:5: tools.odd.path: expected one of the keys module, export, got "x"`,
    ]);
  });

  it("one wrong agent is not told again by each workflow that names it", async () => {
    const file = `
agents:
  triage: { instructions: x, model: m, maxTurns: none, handoffs: [tech] }
  tech: { instructions: x, model: m }
workflows:
  chat: { entry: triage, agents: [triage, tech] }
  chain: { agents: [triage, tech] }
`;
    expect(await problemsOf({ "troupe.yaml": file })).toEqual([
      `troupe.yaml:3: agents.triage.maxTurns: expected a number, got "none"`,
    ]);
  });

  it("no configuration is a usage error that says what was looked for", async () => {
    await using made = await project({});
    await expect(loadConfig(undefined, made.dir)).rejects.toThrow(UsageError);
    await expect(loadConfig("nope.yaml", made.dir)).rejects.toThrow(`--config: expected a file, got "nope.yaml"`);
  });

  it("the examples are without problems", async () => {
    const { agents, workflows } = await loadConfig("examples/troupe.yaml", ROOT);
    expect([...workflows.keys()]).toEqual(["article", "review", "support"]);
    expect(agents.get("billing")?.tools.map(({ name }) => name)).toEqual(["lookup_invoice"]);
  });
});
