import { describe, expect, it } from "vitest";
import { z } from "zod";
import { defineAgent, parseAgent } from "../../src/actors/define-agent.ts";
import { defineTool } from "../../src/actors/define-tool.ts";
import { handoff } from "../../src/actors/handoff.ts";
import { DefinitionError } from "../../src/errors.ts";

const minimal = { name: "writer", instructions: "Write.", model: "gpt-5-mini" };
const search = defineTool({ name: "search", description: "Searches.", parameters: z.object({}), execute: () => "" });

function messageOf(define: () => unknown): string {
  try {
    define();
  } catch (error) {
    if (error instanceof DefinitionError) return error.message;
    throw error;
  }
  throw new Error("expected a DefinitionError, got none");
}

describe("defineAgent", () => {
  it("an agent has every default and nothing it was not given", () => {
    expect(defineAgent(minimal)).toEqual({
      ...minimal,
      provider: "openai",
      settings: {},
      tools: [],
      mcp: [],
      handoffs: [],
      maxTurns: 16,
      timeoutMs: 600_000,
      toolTimeoutMs: 60_000,
      maxParallelTools: 16,
      maxModelAttempts: 5,
      concurrency: 64,
      maxWaiting: 256,
      remote: false,
    });
  });

  it("an agent cannot be changed", () => {
    const agent = defineAgent({ ...minimal, tools: [search] });
    expect(Object.isFrozen(agent) && Object.isFrozen(agent.tools) && Object.isFrozen(agent.handoffs)).toBe(true);
  });

  it("all problems are told at once, each with where, expected and got", () => {
    const wrong = { ...minimal, model: 7, maxTurns: 0, timeoutMs: 2 ** 31, tools: ["search"], promt: "x" };
    expect(messageOf(() => defineAgent(wrong as never)).split("\n")).toEqual([
      `agents.writer.model: expected the name of a model, or an object with \`model\`, or a list of them in order, got 7`,
      `agents.writer.maxTurns: expected a number of at least 1, got 0`,
      `agents.writer.timeoutMs: expected a whole number of milliseconds from 1 to 2147483647, got 2147483648`,
      expect.stringMatching(/^agents\.writer\.promt: expected one of the keys name, .*, got "x"$/),
      `agents.writer.tools[0]: expected a tool made with defineTool, got "search"`,
    ]);
  });

  it("instructions and a model are needed, except of an agent that others serve", () => {
    expect(messageOf(() => defineAgent({ name: "writer" }))).toBe(
      "agents.writer.instructions: expected text (only remote agents do without), got nothing\n" +
        "agents.writer.model: expected text (only remote agents do without), got nothing",
    );
    expect(defineAgent({ name: "legacy", remote: true })).toMatchObject({ instructions: "", model: "" });
  });

  it("handoffs are agents, names or refined edges", () => {
    const billing = defineAgent({ ...minimal, name: "billing", description: "Knows invoices." });
    const payload = z.object({ invoice: z.string() });
    const edge = handoff("sales", { description: "To sell.", input: payload, context: "summary" });
    expect(defineAgent({ ...minimal, handoffs: [billing, "tech", edge] }).handoffs).toEqual([
      { to: "billing", description: "Knows invoices.", context: "full" },
      { to: "tech", context: "full" },
      { to: "sales", description: "To sell.", input: payload, context: "summary" },
    ]);
  });

  it("an edge to itself, a second edge to the same agent and a name too long for a tool are refused", () => {
    const long = "a".repeat(60);
    const handoffs = ["writer", "tech", { to: "tech" }, long];
    const { problems } = parseAgent({ ...minimal, handoffs }, { path: "agents.writer" });
    expect(problems.map(({ path, expected }) => `${path}: ${expected}`)).toEqual([
      "agents.writer.handoffs[0]: another agent",
      "agents.writer.handoffs[2]: each agent at most once",
      "agents.writer.handoffs[3]: an agent whose name has at most 52 characters",
    ]);
  });

  it("a context that does not exist is named with those that do", () => {
    const handoffs = [{ to: "tech", context: "sumary" }];
    const { problems } = parseAgent({ ...minimal, handoffs }, { path: "agents.writer" });
    expect(problems).toEqual([
      {
        path: "agents.writer.handoffs[0].context",
        expected: `one of "full", "summary", "last", "none", or a function`,
        got: `"sumary"`,
      },
    ]);
  });

  it("tools in a file are found by name", () => {
    const tools = new Map([["search", search]]);
    const found = parseAgent({ ...minimal, tools: ["search"] }, { path: "agents.writer", tools });
    expect(found.agent?.tools).toEqual([search]);
    const missing = parseAgent({ ...minimal, tools: ["serch"] }, { path: "agents.writer", tools });
    expect(missing.problems).toEqual([
      { path: "agents.writer.tools[0]", expected: "the name of a tool: search", got: `"serch"` },
    ]);
  });

  it("an output schema that cannot be shown to a model or checked is refused", () => {
    expect(messageOf(() => defineAgent({ ...minimal, output: z.date() }))).toMatch(
      /^agents\.writer\.output: .*JSON Schema/,
    );
    expect(messageOf(() => defineAgent({ ...minimal, output: { not: { type: "string" } } }))).toMatch(
      /^agents\.writer\.output: expected a JSON Schema that can be checked/,
    );
  });

  it("an agent read again is the same", () => {
    const agent = defineAgent({ ...minimal, tools: [search], handoffs: ["tech"], settings: { temperature: 0 } });
    expect(parseAgent(agent, { path: "agents.writer" }).agent).toEqual(agent);
    const remote = defineAgent({ name: "legacy", remote: true });
    expect(parseAgent(remote, { path: "agents.legacy" }).agent).toEqual(remote);
  });
});

describe("defineTool", () => {
  it("a tool's arguments are inferred from its parameters", async () => {
    const add = defineTool({
      name: "add",
      description: "Adds.",
      parameters: z.object({ a: z.number(), b: z.number().default(1) }),
      execute: ({ a, b }) => a + b,
    });
    expect(await add.execute({ a: 2, b: 3 } as never, undefined as never)).toBe(5);
  });

  it("all problems of a tool are told at once", () => {
    const wrong = { name: "my tool", description: "", parameters: z.string(), execute: 3 };
    expect(messageOf(() => defineTool(wrong as never)).split("\n")).toEqual([
      `tools["my tool"].name: expected a name of 1 to 64 letters, digits, "-" or "_", got "my tool"`,
      `tools["my tool"].description: expected some text, got ""`,
      expect.stringMatching(/^tools\["my tool"\]\.parameters: expected a zod object, as in z\.object\(\{…\}\), got /),
      `tools["my tool"].execute: expected a function, got 3`,
    ]);
  });

  it("names of handoff tools are reserved", () => {
    const options = { name: "transfer_to_x", description: "No.", parameters: z.object({}), execute: () => "" };
    expect(messageOf(() => defineTool(options))).toContain("expected a name that does not begin with transfer_to_");
  });

  it("parameters no model can be told about are refused", () => {
    const options = { name: "at", description: "No.", parameters: z.object({ at: z.date() }), execute: () => "" };
    expect(messageOf(() => defineTool(options))).toMatch(
      /^tools\.at\.parameters: expected a schema that JSON Schema can express/,
    );
  });

  it("resolves how it is tried again, and leaves out what was not said", () => {
    const about = { name: "pay", description: "Pays.", parameters: z.object({}), execute: () => "" };
    const retry = { maxAttempts: 3, backoff: "exponential", delayMs: 500, maxDelayMs: 30_000 };
    expect(defineTool({ ...about, effect: "once", retry: { maxAttempts: 3 } })).toMatchObject({
      effect: "once",
      retry,
    });
    expect(Object.keys(defineTool(about)).sort()).toEqual(["description", "execute", "name", "parameters"]);
  });

  it("takes `onUnknown` only for a tool that is executed once", () => {
    const about = { name: "pay", description: "Pays.", parameters: z.object({}), execute: () => "" };
    expect(defineTool({ ...about, effect: "once", onUnknown: "stop" }).onUnknown).toBe("stop");
    expect(messageOf(() => defineTool({ ...about, onUnknown: "stop" }))).toBe(
      `tools.pay.onUnknown: expected none, because only a tool whose effect is "once" is not executed again, got "stop"`,
    );
    expect(messageOf(() => defineTool({ ...about, effect: "once", onUnknown: "guess" as "fail" }))).toBe(
      `tools.pay.onUnknown: expected "fail", "stop" or a function, got "guess"`,
    );
  });

  it("infers what is returned from `output`", () => {
    const about = {
      name: "price",
      description: "Prices.",
      parameters: z.object({}),
      output: z.object({ price: z.number() }),
    };
    // @ts-expect-error a price is a number
    defineTool({ ...about, execute: () => ({ price: "3" }) });
    const execute = () => ({ price: 3 });
    // @ts-expect-error what was found out is a price
    defineTool({ ...about, effect: "once", onUnknown: () => ({ done: true, result: 3 }), execute });
    expect(defineTool({ ...about, execute: async () => ({ price: 3 }) }).output).toBe(about.output);
  });
});
