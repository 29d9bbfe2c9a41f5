import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { Model } from "../../../src/actors/model.ts";
import { DefinitionError } from "../../../src/errors.ts";
import { openProviders, type ProvidersContext } from "../../../src/runtime/models/providers.ts";
import { ScriptedModel, say } from "../../../src/testing/index.ts";
import { type OpenAIServer, startOpenAIServer } from "../../helpers/openai-server.ts";

const agent = (parts: { provider?: string; baseURL?: string; apiKey?: string } = {}) => ({
  name: "writer",
  provider: "openai",
  ...parts,
});

/** A directory with these files; gone after the test. */
async function directoryWith(files: { [name: string]: string }): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "troupe-providers-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  for (const [name, content] of Object.entries(files)) await writeFile(join(directory, name), content);
  return directory;
}

async function ask(model: Model, text = "hi"): Promise<string | null> {
  const context = { signal: new AbortController().signal, runId: "r", taskId: "t", agent: "writer", turn: 1 };
  const messages = [{ role: "user" as const, content: text }];
  return (await model.call({ model: "m", instructions: "", messages, tools: [] }, context)).content;
}

function keysSeen(server: OpenAIServer): (string | undefined)[] {
  return server.calls.map(({ headers }) => headers.authorization);
}

async function problemsOf(raw: unknown, parts: Partial<ProvidersContext> = {}): Promise<string> {
  const error = await openProviders(raw, { directory: "/", env: {}, ...parts }).then(
    () => expect.fail("expected the providers to be refused"),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof DefinitionError)) throw error;
  return error.message;
}

const ECHO = `
  import type { Message } from "nowhere";
  export type Options = { prefix: string };
  export const plain = { provider: "echo", call: async (request: any) => reply("plain: ", request) };
  export default async function make(options?: Options) {
    return { provider: "echo", call: async (request: any) => reply(options?.prefix ?? "", request) };
  }
  const reply = (prefix: string, request: any) => ({ content: prefix + request.messages[0].content });
  export const number = 7;
  export const wrong = () => ({ call: "no function" });
`;

test("the provider openai takes its key and endpoint from the environment", async () => {
  await using server = await startOpenAIServer({ reply: "hello", apiKey: "from-env" });
  const env = { OPENAI_API_KEY: "from-env", OPENAI_BASE_URL: server.url };
  const modelOf = await openProviders(undefined, { directory: "/", env });
  const model = modelOf(agent());
  expect(await ask(model)).toBe("hello");
  expect(model.provider).toBe("openai");
  expect(model.server).toEqual({ address: "127.0.0.1", port: Number(new URL(server.url).port) });
});

test("without a key and an endpoint the first call, not the start, says which variable to set", async () => {
  const modelOf = await openProviders({}, { directory: "/", env: {} });
  await expect(ask(modelOf(agent()))).rejects.toMatchObject({
    code: "unauthorized",
    retryable: false,
    message: expect.stringMatching(/set OPENAI_API_KEY$/),
  });
});

test("an endpoint that needs no key is called with a placeholder", async () => {
  await using server = await startOpenAIServer({ reply: "hello" });
  const modelOf = await openProviders(
    { local: { baseURL: server.url } },
    { directory: "/", env: { OPENAI_API_KEY: "s" } },
  );
  const model = modelOf(agent({ provider: "local" }));
  expect(await ask(model)).toBe("hello");
  expect(model.provider).toBe("local");
  expect(keysSeen(server)).toEqual(["Bearer none"]);
});

test("a key variable that is named but not set fails the call and names it", async () => {
  await using server = await startOpenAIServer({ reply: "hello" });
  const raw = { hosted: { baseURL: server.url, apiKeyEnv: "HOSTED_KEY" } };
  const unset = await openProviders(raw, { directory: "/", env: {} });
  await expect(ask(unset(agent({ provider: "hosted" })))).rejects.toThrow(/set HOSTED_KEY$/);
  const set = await openProviders(raw, { directory: "/", env: { HOSTED_KEY: "k" } });
  await ask(set(agent({ provider: "hosted" })));
  expect(keysSeen(server)).toEqual(["Bearer k"]);
});

test("an agent's own endpoint and key win, and the provider's key does not go to another host", async () => {
  await using own = await startOpenAIServer({ reply: "own" });
  const modelOf = await openProviders({}, { directory: "/", env: { OPENAI_API_KEY: "secret" } });
  expect(await ask(modelOf(agent({ baseURL: own.url, apiKey: "mine" })))).toBe("own");
  expect(await ask(modelOf(agent({ baseURL: own.url })))).toBe("own");
  expect(keysSeen(own)).toEqual(["Bearer mine", "Bearer none"]);
});

test("agents with the same endpoint share one model", async () => {
  const modelOf = await openProviders({}, { directory: "/", env: {} });
  expect(modelOf(agent())).toBe(modelOf({ ...agent(), name: "editor" }));
  expect(modelOf(agent())).not.toBe(modelOf(agent({ apiKey: "other" })));
});

test("a TypeScript module may export a function that makes a model from options", async () => {
  const directory = await directoryWith({ "echo.ts": ECHO });
  const raw = { echo: { module: "./echo.ts", options: { prefix: "> " } } };
  const modelOf = await openProviders(raw, { directory });
  expect(await ask(modelOf(agent({ provider: "echo" })))).toBe("> hi");
});

test("a package is found from the directory of the configuration", async () => {
  const directory = await directoryWith({});
  const folder = join(directory, "node_modules", "my-model");
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "package.json"), '{"name":"my-model","main":"index.mjs"}');
  await writeFile(
    join(folder, "index.mjs"),
    'export default { provider: "p", call: async () => ({ content: "packed" }) };',
  );
  const modelOf = await openProviders({ mine: { module: "my-model" } }, { directory });
  expect(await ask(modelOf(agent({ provider: "mine" })))).toBe("packed");
});

test("a module may export a model under a name", async () => {
  const directory = await directoryWith({ "echo.ts": ECHO });
  const modelOf = await openProviders({ echo: { module: "./echo.ts", export: "plain" } }, { directory });
  expect(await ask(modelOf(agent({ provider: "echo" })))).toBe("plain: hi");
});

test("a model itself may stand in the providers", async () => {
  const model = new ScriptedModel([say("alone"), say("with limits")]);
  const raw = { openai: model, limited: { model, maxConcurrency: 2 } };
  const modelOf = await openProviders(raw, { directory: "/" });
  expect(await ask(modelOf(agent()))).toBe("alone");
  expect(await ask(modelOf(agent({ provider: "limited" })))).toBe("with limits");
  expect(modelOf(agent()).provider).toBe("scripted");
});

test.each<[string, object, string]>([
  ["a missing file", { module: "./none.ts" }, "Cannot find module"],
  [
    "a missing export",
    { module: "./echo.ts", export: "nope" },
    'no export "nope" in ./echo.ts (it has default, number, plain, wrong)',
  ],
  ["an export that is no model", { module: "./echo.ts", export: "number" }, "got 7"],
  ["a function that makes no model", { module: "./echo.ts", export: "wrong" }, "got an object with the keys call"],
  ["a module that throws", { module: "./throws.ts" }, "got out of luck"],
])("%s is a problem with its place", async (_, config, got) => {
  const directory = await directoryWith({ "echo.ts": ECHO, "throws.ts": 'throw new Error("out of luck");' });
  const message = await problemsOf({ mine: config }, { directory, file: "troupe.yaml" });
  expect(message).toMatch(
    /^troupe\.yaml: providers\.mine\.module: expected a module that exports a Model, or a function/,
  );
  expect(message).toContain(got);
});

test("every problem is told at once, and keys are not", async () => {
  const message = await problemsOf({
    a: { baseURL: "localhost:1", timeoutMs: 0, url: "x" },
    b: "gpt",
    c: { apiKey: 5, headers: { x: 1 } },
    d: { module: "./m.ts", baseURL: "http://x" },
    e: { api: "complete", stream: "no", maxConcurrency: 0, breaker: { failures: 0 } },
  });
  expect(message.split("\n")).toEqual([
    'providers.a.baseURL: expected an http(s) URL, got "localhost:1"',
    "providers.a.timeoutMs: expected a whole number of milliseconds, at least 1, got 0",
    'providers.a.url: expected one of the keys baseURL, apiKey, apiKeyEnv, api, stream, headers, timeoutMs, maxConcurrency, requestsPerMinute, tokensPerMinute, breaker, got "url"',
    'providers.b: expected { baseURL, apiKeyEnv, … } or { module, … }, got "gpt"',
    "providers.c.apiKey: expected text, got number",
    "providers.c.headers: expected a map of text, got an object with the keys x",
    'providers.d.baseURL: expected one of the keys module, export, options, maxConcurrency, requestsPerMinute, tokensPerMinute, breaker, got "baseURL"',
    'providers.e.api: expected one of chat, responses, got "complete"',
    'providers.e.stream: expected true or false, got "no"',
    "providers.e.maxConcurrency: expected a whole number, at least 1, got 0",
    "providers.e.breaker: expected { failures, cooldownMs } in whole numbers, or false, got an object with the keys failures",
  ]);
});

test("a provider that nobody configured is a problem of the agent", async () => {
  const modelOf = await openProviders({ local: { baseURL: "http://x/v1" } }, { directory: "/", env: {} });
  expect(() => modelOf(agent({ provider: "lokal" }))).toThrow(
    'agents.writer.provider: expected a configured provider (openai, local), got "lokal"',
  );
});

test("an agent's own endpoint beside a module is a problem of the agent", async () => {
  const modelOf = await openProviders({ mine: new ScriptedModel([]) }, { directory: "/" });
  expect(() => modelOf(agent({ provider: "mine", baseURL: "http://x/v1" }))).toThrow(
    /^agents\.writer\.baseURL: expected none/,
  );
});
