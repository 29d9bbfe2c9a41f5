import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type AgentOptions, defineAgent } from "../../../src/actors/define-agent.ts";
import type { ToolContext, ToolProgress } from "../../../src/actors/tool.ts";
import type { Problem } from "../../../src/errors.ts";
import { type McpServerOptions, readMcpServers } from "../../../src/runtime/mcp/mcp-config.ts";
import { type Mcp, startMcp } from "../../../src/runtime/mcp/start-mcp.ts";
import { isAlive } from "../../helpers/alive.ts";
import { MCP_SERVER, type McpHttpServer, startMcpHttpServer } from "../../helpers/mcp-http-server.ts";
import { until } from "../../helpers/until.ts";

let dir: string;
let ledger: string;
let started: Mcp[] = [];
let logged: { level: number; msg: string; mcpServer?: string }[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-mcp-"));
});
afterAll(() => rm(dir, { recursive: true }));

let ledgers = 0;
beforeEach(() => {
  ledgers += 1;
  ledger = join(dir, `ledger${ledgers}`);
  logged = [];
});
afterEach(async () => {
  await Promise.all(started.map((mcp) => mcp.stop()));
  started = [];
});

const agentWith = (more: Partial<AgentOptions>) =>
  defineAgent({ name: "clerk", instructions: "x", model: "m", mcp: ["files"], ...more });

function start(server: Partial<McpServerOptions> = {}, agent = agentWith({})) {
  const problems: Problem[] = [];
  const own = "url" in server ? server : { ...MCP_SERVER, env: { MCP_LEDGER: ledger, GIVEN: "here" }, ...server };
  const servers = readMcpServers({ files: own }, { file: "test", dir, problems });
  expect(problems).toEqual([]);
  const logger = pino({ level: "debug" }, { write: (line: string) => void logged.push(JSON.parse(line)) });
  const mcp = startMcp({ servers: [...servers.values()], agents: [agent], logger });
  started.push(mcp);
  return { mcp, ...callerOf(mcp, agent) };
}

function callerOf(mcp: Mcp, agent = agentWith({})) {
  const signal = new AbortController().signal;
  const told: (string | ToolProgress)[] = [];
  const context: ToolContext = {
    signal,
    runId: "r",
    taskId: "t",
    agent: "clerk",
    idempotencyKey: "key-1",
    attempt: 1,
    progress: (how) => told.push(how),
    logger: pino({ level: "silent" }),
  };
  return {
    told,
    names: async () => (await mcp.specsOf(agent, signal)).map(({ name }) => name).sort(),
    tool: (name: string) => mcp.find(agent, name, signal),
    async call(name: string, args: object = {}, more: Partial<ToolContext> = {}) {
      const tool = await mcp.find(agent, name, signal);
      return tool.execute(args as never, { ...context, ...more });
    },
  };
}

async function linesOf(): Promise<string[]> {
  return (await readFile(ledger, "utf8").catch(() => "")).split("\n").filter((line) => line !== "");
}

async function pids(): Promise<number[]> {
  return (await linesOf()).flatMap((line) => (line.startsWith("pid ") ? [Number(line.slice(4))] : []));
}

const ALL = ["add", "die", "echo", "fail", "grow", "hang", "note", "picture", "variables"];

describe("over stdio", () => {
  test("a server's tools appear with its name before theirs, their descriptions and schemas as they are", async () => {
    const { mcp, names } = start();
    expect(await names()).toEqual(ALL.map((name) => `files_${name}`));
    const specs = await mcp.specsOf(agentWith({}), new AbortController().signal);
    expect(specs.find(({ name }) => name === "files_echo")).toMatchObject({
      description: "Says it again.",
      parameters: { type: "object", properties: { text: { type: "string" } }, required: ["text"] },
    });
  });

  test("what is allowed, not denied and referred to is there, and nothing else can be called", async () => {
    const server = { allow: ["e*", "add", "note", "variables"], deny: ["v*"] };
    const { names, call } = start(server, agentWith({ mcp: ["files.e*", "files.add", "files.variables"] }));
    expect(await names()).toEqual(["files_add", "files_echo"]);
    const words = "agents refer to tools that the MCP server does not have";
    expect(logged).toContainEqual(expect.objectContaining({ level: 40, missing: ["variables"], msg: words }));
    expect(await call("files_echo", { text: "hi" })).toBe("hi");
    for (const name of ["note", "variables", "hang", "nothing"]) {
      await expect(call(`files_${name}`)).rejects.toThrow(
        `there is no tool "files_${name}"; there are: files_echo, files_add`,
      );
    }
  });

  test("results are text, structured content is not repeated, and what cannot be read is described", async () => {
    const { call } = start();
    expect(await call("files_add", { a: 1, b: 2 })).toBe(`{"sum":3}`);
    expect(await call("files_picture")).toBe(
      "a dot\n\n[image: image/png, 12 bytes]\n\n[resource: file:///a.txt]\nwords in a file\n\n[resource: b, file:///b.txt]",
    );
    await expect(call("files_fail")).rejects.toThrow(/^no such shelf$/);
  });

  test("arguments are checked by the tool's own schema before they are sent", async () => {
    const { call } = start();
    await expect(call("files_note", { what: 3 })).rejects.toThrow(/^files_note: .*what.* string/);
    expect((await linesOf()).filter((line) => !line.startsWith("pid"))).toEqual([]);
  });

  test("a server has its own variables and those that are named, not the daemon's", async () => {
    vi.stubEnv("SECRET_OF_DAEMON", "s");
    vi.stubEnv("NAMED_OF_DAEMON", "n");
    const { call } = start({ inheritEnv: ["NAMED_OF_DAEMON"] });
    const variables = JSON.parse(String(await call("files_variables")));
    vi.unstubAllEnvs();
    expect(variables).toMatchObject({ GIVEN: "here", NAMED_OF_DAEMON: "n", PATH: process.env.PATH });
    expect(variables).not.toHaveProperty("SECRET_OF_DAEMON");
  });

  test("the effect is what the server says of its tools, `once` where it says nothing, and what is configured before both", async () => {
    const { tool } = start({ tools: { hang: { effect: "idempotent", timeoutMs: 7 }, "*": { maxResultBytes: 9 } } });
    expect(await tool("files_echo")).toMatchObject({ effect: "read", maxResultBytes: 9 });
    expect(await tool("files_note")).toMatchObject({ effect: "once", maxResultBytes: 9 });
    expect(await tool("files_hang")).toMatchObject({ effect: "idempotent", timeoutMs: 7 });
    expect(await tool("files_hang")).not.toHaveProperty("maxResultBytes");
    expect(await tool("files_note")).toMatchObject({ timeoutMs: agentWith({}).toolTimeoutMs });
  });

  test("the idempotency key goes along, and what the server logs and writes to stderr is in the daemon's log", async () => {
    const { call } = start();
    expect(await call("files_note", { what: "a" })).toBe("noted a");
    expect(await linesOf()).toContain("a key-1");
    await until("both are logged", () => logged.some(({ msg }) => msg === "noted a"));
    expect(logged.filter(({ mcpServer }) => mcpServer === "files")).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ level: 30, msg: "the test server is up" }),
        expect.objectContaining({ level: 40, msg: "noted a" }),
      ]),
    );
  });

  test("a call that is stopped is cancelled at the server, and its progress is told until then", async () => {
    const { call, told } = start();
    const aborter = new AbortController();
    const called = call("files_hang", { what: "b" }, { signal: aborter.signal });
    called.catch(() => {});
    await until("progress is told", () => told.length > 0);
    expect(told).toEqual([{ percent: 25, message: "a quarter" }]);
    aborter.abort(new Error("enough"));
    await expect(called).rejects.toThrow("enough");
    await until("the server knows", async () => (await linesOf()).includes("cancelled b"));
  });

  test("a server that is killed in the middle of a call is started again, and the call says that its outcome is not known", async () => {
    const { call, names } = start();
    const called = call("files_hang", { what: "c" });
    called.catch(() => {});
    await until("the call is there", async () => (await linesOf()).includes("c key-1"));
    const [first = 0] = await pids();
    process.kill(first, "SIGKILL");
    await expect(called).rejects.toMatchObject({ code: "outcome_unknown", retryable: true });
    expect(await names()).toContain("files_echo");
    await until(
      "it is up again",
      async () => (await call("files_echo", { text: "again" }).catch(() => "")) === "again",
    );
    expect(await pids()).toHaveLength(2);
  });

  test("tools that come while the server runs are there for the next turn", async () => {
    const { call, names } = start();
    expect(await call("files_grow")).toBe("grown");
    await until("it is listed", async () => (await names()).includes("files_grown"));
    expect(await call("files_grown")).toBe("I am new");
  });

  test("a server that never comes up is an error that says why, at once when it has failed often", async () => {
    const { mcp, call } = start({ command: "/nowhere/server", args: [] });
    const signal = new AbortController().signal;
    await expect(mcp.specsOf(agentWith({}), signal)).rejects.toMatchObject({
      code: "mcp_unavailable",
      retryable: true,
      message: expect.stringMatching(/^the MCP server files is not up: .*ENOENT/),
    });
    await expect(call("files_echo", { text: "x" })).rejects.toMatchObject({ code: "mcp_unavailable" });
  });

  test("a call of a server that is down says so well before its time is up, because it was never made", async () => {
    // A server that does not come up a second time.
    const script = 'test -s "$MCP_LEDGER" || exec "$0" "$@"';
    const args = ["-c", script, MCP_SERVER.command, ...MCP_SERVER.args];
    const { names, call } = start({ command: "sh", args, timeoutMs: 200 });
    await names();
    const [pid = 0] = await pids();
    process.kill(pid, "SIGKILL");
    await until("it is down", () => logged.some(({ msg }) => msg.startsWith("the MCP server is down")));
    await expect(call("files_note", { what: "x" })).rejects.toMatchObject({ code: "mcp_unavailable", retryable: true });
  });

  test("its process is gone once it is stopped, and a server nobody refers to is never started", async () => {
    const { mcp, names } = start();
    await names();
    const [pid = 0] = await pids();
    expect(isAlive(pid)).toBe(true);
    await mcp.stop();
    expect(isAlive(pid)).toBe(false);
    start({}, agentWith({ mcp: [] }));
    expect(await pids()).toHaveLength(1);
  });
});

test("a server that never answers, and does not end when its stdin does, is ended all the same", async () => {
  const args = ["-c", 'echo "pid $$" >> "$MCP_LEDGER"; exec sleep 60'];
  const { mcp } = start({ command: "sh", args });
  const [pid = 0] = await until("it runs", async () => {
    const found = await pids();
    return found.length > 0 && found;
  });
  await mcp.stop();
  expect(isAlive(pid)).toBe(false);
});

describe("over streamable HTTP", () => {
  let server: McpHttpServer;
  beforeEach(async () => {
    server = await startMcpHttpServer({ MCP_LEDGER: ledger });
  });
  afterEach(() => server[Symbol.asyncDispose]());

  const over = (more: object = {}) => start({ url: server.url, headers: { Authorization: "Bearer open" }, ...more });

  test("tools are listed and called, with the headers of the configuration", async () => {
    vi.stubEnv("MCP_TOKEN", "Bearer open");
    const { names, call } = over({ headers: {}, headersEnv: { Authorization: "MCP_TOKEN" } });
    expect(await names()).toEqual(ALL.map((name) => `files_${name}`));
    expect(await call("files_add", { a: 2, b: 2 })).toBe(`{"sum":4}`);
    vi.unstubAllEnvs();
  });

  test("a server that refuses says why", async () => {
    const { mcp } = over({ headers: { Authorization: "Bearer wrong" } });
    await expect(mcp.specsOf(agentWith({}), new AbortController().signal)).rejects.toThrow(/not up: .*who are you\?/);
  });

  test("a server that is killed in the middle of a call is found again, and the call says that its outcome is not known", async () => {
    // Without a stream of its own there is nothing but the call to see that the server is gone by.
    await server.kill();
    server = await startMcpHttpServer({ MCP_LEDGER: ledger, MCP_NO_STREAM: "1" });
    const { call } = over();
    const called = call("files_hang", { what: "d" });
    called.catch(() => {});
    await until("the call is there", async () => (await linesOf()).includes("d key-1"));
    await server.kill();
    await expect(called).rejects.toMatchObject({ code: "outcome_unknown" });
    const port = Number(new URL(server.url).port);
    server = await startMcpHttpServer({ MCP_LEDGER: ledger }, port);
    await until("it is found", async () => (await call("files_echo", { text: "e" }).catch(() => "")) === "e");
  });

  test("a server that has forgotten the session is spoken to in a new one", async () => {
    const { call } = over();
    expect(await call("files_echo", { text: "one" })).toBe("one");
    await server.kill();
    server = await startMcpHttpServer({ MCP_LEDGER: ledger }, Number(new URL(server.url).port));
    await until("it is found", async () => (await call("files_echo", { text: "two" }).catch(() => "")) === "two");
  });
});
