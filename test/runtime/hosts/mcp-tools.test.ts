import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { defineTool } from "../../../src/actors/define-tool.ts";
import { ModelError, type Problem } from "../../../src/errors.ts";
import { readMcpServers } from "../../../src/runtime/mcp/mcp-config.ts";
import { startMcp } from "../../../src/runtime/mcp/start-mcp.ts";
import { type Bench, startBench } from "../../helpers/agent-host-bench.ts";
import { startFakeOwner } from "../../helpers/fake-owner.ts";
import { MCP_SERVER } from "../../helpers/mcp-http-server.ts";
import { call, say, taskFor } from "../../helpers/task-driver.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());

const logger = pino({ level: "silent" });
const own = defineTool({
  name: "files_echo",
  description: "Mine.",
  parameters: z.object({}),
  execute: () => "my own",
});

function serverOf(options: object) {
  const problems: Problem[] = [];
  return [...readMcpServers({ files: options }, { file: "test", dir: process.cwd(), problems }).values()];
}

test("a model is told of an agent's own tools and of those of servers, and what it calls is what it was told of", async () => {
  const agent = defineAgent({
    name: "clerk",
    instructions: "x",
    model: "m",
    tools: [own],
    mcp: ["files.echo", "files.add"],
  });
  const mcp = startMcp({ servers: serverOf(MCP_SERVER), agents: [agent], logger });
  try {
    // How long it takes to start is no matter of this test.
    await mcp.specsOf(agent, new AbortController().signal);
    const calls = [{ name: "files_echo" }, { name: "files_add", args: { a: 1, b: 1 } }, { name: "files_note" }];
    const host = await bench.host([agent], ({ context }) => (context.turn === 1 ? call(...calls) : say("ok")), { mcp });
    const owner = startFakeOwner(bench.bus, bench.subjects);
    owner.send(taskFor("clerk"));
    expect(await owner.outcome("t1")).toMatchObject({ output: "ok" });
    expect(host.calls[0]?.request.tools.map(({ name, description }) => [name, description])).toEqual([
      ["files_echo", "Mine."],
      ["files_add", "add"],
    ]);
    expect(host.calls[1]?.request.messages.slice(2).map(({ content }) => content)).toEqual([
      "my own",
      `{"sum":2}`,
      `error: there is no tool "files_note"; there are: files_echo, files_add`,
    ]);
  } finally {
    await mcp.stop();
  }
});

test("the model an agent falls back to has the tools of servers as well, and its calls of them are counted", async () => {
  const agent = defineAgent({ name: "careful", instructions: "x", model: ["large", "small"], mcp: ["files.add"] });
  const mcp = startMcp({ servers: serverOf(MCP_SERVER), agents: [agent], logger });
  try {
    await mcp.specsOf(agent, new AbortController().signal);
    const host = await bench.host(
      [agent],
      ({ request, context }) => {
        if (request.model === "large") throw new ModelError("bad_request", "400", { retryable: false });
        return context.turn === 1 ? call({ name: "files_add", args: { a: 1, b: 1 } }) : say("2");
      },
      { mcp },
    );
    const owner = startFakeOwner(bench.bus, bench.subjects);
    owner.send(taskFor("careful", { runId: "run3" }));
    const models = [{ provider: "openai", model: "small", modelCalls: 2 }];
    expect(await owner.outcome("t1")).toMatchObject({ output: "2", usage: { modelCalls: 2, toolCalls: 1, models } });
    expect(host.calls.map(({ request }) => [request.model, request.tools.map(({ name }) => name)])).toEqual([
      ["large", ["files_add"]],
      ["small", ["files_add"]],
      ["large", ["files_add"]],
      ["small", ["files_add"]],
    ]);
  } finally {
    await mcp.stop();
  }
});

test("an agent whose server does not come up is not asked without its tools: the task fails, and is worth another attempt", async () => {
  const agent = defineAgent({ name: "loner", instructions: "x", model: "m", mcp: ["files"] });
  const mcp = startMcp({ servers: serverOf({ command: "/nowhere/server" }), agents: [agent], logger });
  try {
    const host = await bench.host([agent], () => say("I have no tools"), { mcp });
    const owner = startFakeOwner(bench.bus, bench.subjects);
    owner.send(taskFor("loner", { runId: "run2" }));
    expect(await owner.outcome("t1")).toMatchObject({
      type: "failed",
      error: { code: "mcp_unavailable", retryable: true, message: expect.stringContaining("files is not up") },
    });
    expect(host.calls).toEqual([]);
  } finally {
    await mcp.stop();
  }
});

test("a daemon does not start with an agent that refers to a server there is none of", () => {
  const agent = defineAgent({ name: "lost", instructions: "x", model: "m", mcp: ["file"] });
  expect(() => startMcp({ servers: serverOf(MCP_SERVER), agents: [agent], logger })).toThrow(
    "mcp: expected names from mcpServers (files), got file",
  );
});
