import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, defineAgent, defineConfig, defineWorkflow, serve } from "../../../src/index.ts";
import { ScriptedModel, say } from "../../../src/testing/index.ts";

const writer = defineAgent({ name: "writer", instructions: "Write.", model: "m" });
const article = defineWorkflow({ name: "article", agents: [writer] });

let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-serve-"));
});

afterAll(() => rm(dir, { recursive: true, force: true }));

/** A configuration whose provider `openai` is a script. */
function config(answer: string) {
  return defineConfig({
    agents: [writer],
    workflows: [article],
    providers: { openai: new ScriptedModel([say(answer)]) },
    daemon: { data: "data", httpPort: 0, logLevel: "silent", prefix: "file" },
  });
}

test("a program serves what it defined, runs it, and stops it", async () => {
  const daemon = await serve(config("It is about tea."), { dir, env: {}, telemetry: false });
  const client = await connect({ servers: daemon.natsUrl, prefix: "file" });
  expect(await client.run("article", "tea")).toBe("It is about tea.");
  expect(await client.agents()).toMatchObject([{ name: "writer", model: "m", provider: "openai" }]);
  await client.close();
  await daemon.drain();
});

test("variables go before what the program says", async () => {
  const daemon = await serve(config("x"), { dir, env: { TROUPE_PREFIX: "variable" }, telemetry: false });
  expect(daemon.subjects.prefix).toBe("variable");
  await daemon.drain();
});

test("everything that is wrong is told at once, before anything starts", async () => {
  const wrong = { ...config("x"), daemon: { beatMs: "never", dta: "x" } as object };
  const failure = await serve(wrong, { dir, env: {} }).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: "invalid_definition" });
  expect(String(failure)).toMatch(/daemon\.dta: .*did you mean data.*\n.*daemon\.beatMs: expected a duration/);
});

test("the feed tells all runs of a workflow until it is stopped", async () => {
  const daemon = await serve(config("x"), { dir, env: {}, telemetry: false });
  const client = await connect({ servers: daemon.natsUrl, prefix: "file" });
  const heard: string[] = [];
  const enough = new AbortController();
  const listening = (async () => {
    for await (const event of client.feed({ workflow: "article", signal: enough.signal })) {
      heard.push(event.type);
      if (event.type === "run.completed") enough.abort();
    }
  })();
  await client.run("article", "tea");
  await listening;
  expect(heard.at(0)).toBe("run.accepted");
  expect(heard.at(-1)).toBe("run.completed");
  await client.close();
  await daemon.drain();
});
