/**
 * One MCP server as long as the daemon runs: started, listed, called, and started again when it is gone.
 *
 *   starting ──▶ up ──gone──▶ down ──after a while──▶ starting …        from anywhere ──▶ stopped
 *
 * Invariants
 * M1  At most one connection at a time, and none after `stop`: the process behind it is gone when that resolves.
 * M2  A call is made once. Where the server dies under it, it is answered with an error that says whether it may have been done.
 * M3  The tools are those of the last listing, also while the server is down: what an agent is told does not flicker.
 */
import type { Logger } from "pino";
import { fitsPattern } from "../../actors/mcp-reference.ts";
import { ToolError } from "../../errors.ts";
import { sleep } from "../models/sleep.ts";
import type { McpServerConfig } from "./mcp-config.ts";
import type { McpCall, McpConnection } from "./mcp-connection.ts";
import type { McpResult } from "./mcp-result.ts";
import { type McpTool, toMcpTools } from "./mcp-tools.ts";

type State =
  | { is: "starting" }
  | { is: "up"; connection: McpConnection }
  | { is: "down"; why: string }
  | { is: "stopped" };

export type McpServer = {
  readonly name: string;
  /**
   * The tools by the names models call them, once the server has told them; waits for that as long as a start may take.
   *
   * @throws ToolError `mcp_unavailable` where it does not come up; with the signal's reason when that aborts.
   */
  tools(signal: AbortSignal): Promise<ReadonlyMap<string, McpTool>>;
  stop(): Promise<void>;
};

/** Soon enough that a call which waits finds it up again, and doubled each time, as with everything that is tried again. */
const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 30_000;
/** Who was up for so long is not failing at its start. */
const STEADY_MS = 10_000;
/** Who failed so often in a row, and was never up, is not waited for. */
const HOPELESS = 3;
/** How long a call waits for a server that is down, in milliseconds; half of its own time where that is less. */
const PATIENCE_MS = 5_000;

export type McpServerOptions = {
  /** Patterns by which agents refer to its tools. */
  wanted: ReadonlySet<string>;
  logger: Logger;
};

/** Starts a server, and keeps it up until `stop`. */
export function startMcpServer(config: McpServerConfig, options: McpServerOptions): McpServer {
  const { name, startTimeoutMs } = config;
  const logger = options.logger.child({ mcpServer: name });
  const stopping = new AbortController();
  const waiting = new Set<() => void>();
  let state: State = { is: "starting" };
  let tools: Map<string, McpTool> | undefined;
  let failures = 0;
  const running = run();
  return {
    name,
    async tools(signal) {
      if (tools) return tools;
      await until(() => tools !== undefined || (state.is === "down" && failures >= HOPELESS), startTimeoutMs, signal);
      if (tools) return tools;
      throw notUp();
    },
    async stop() {
      stopping.abort();
      // M1
      await running;
    },
  };

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      const startedAt = performance.now();
      const why = await live();
      if (stopping.signal.aborted) break;
      if (performance.now() - startedAt >= STEADY_MS) failures = 0;
      failures += 1;
      enter({ is: "down", why });
      const delayMs = Math.min(FIRST_DELAY_MS * 2 ** (failures - 1), LONGEST_DELAY_MS) * (0.5 + Math.random() / 2);
      logger.warn({ delayMs: Math.round(delayMs) }, `the MCP server is down: ${why}`);
      await sleep(delayMs, stopping.signal).catch(() => {});
    }
    enter({ is: "stopped" });
  }

  /** One life of the server; gives the reason of its end. */
  async function live(): Promise<string> {
    enter({ is: "starting" });
    let connection: McpConnection | undefined;
    try {
      // Loaded here: a daemon without servers does without the SDK.
      const { connectMcp } = await import("./mcp-connection.ts");
      connection = await connectMcp(config, { logger, onToolsChanged, signal: stopping.signal });
      await list(connection);
      enter({ is: "up", connection });
      logger.info({ tools: tools?.size }, "the MCP server is up");
      return await connection.closed;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    } finally {
      await connection?.close().catch(() => {});
    }
  }

  async function list(connection: McpConnection): Promise<void> {
    const { checkBySchema } = connection;
    const listed = toMcpTools(await connection.listTools(), { config, logger, checkBySchema, call });
    tools = listed;
    const fits = (pattern: string) => [...listed.values()].some(({ original }) => fitsPattern([pattern], original));
    const missing = [...options.wanted].filter((pattern) => !fits(pattern));
    if (missing.length > 0) logger.warn({ missing }, "agents refer to tools that the MCP server does not have");
  }

  function onToolsChanged(): void {
    if (state.is !== "up") return;
    list(state.connection).then(
      () => logger.info({ tools: tools?.size }, "the tools of the MCP server have changed"),
      (error: unknown) => logger.warn({ err: error }, "the MCP server does not tell its new tools"),
    );
  }

  // M2
  async function call({ timeoutMs, ...given }: McpCall & { timeoutMs: number }): Promise<McpResult> {
    // Where its own time was up first, nobody would know that the call was never made.
    await until(() => state.is === "up", Math.min(PATIENCE_MS, timeoutMs / 2), given.signal);
    if (state.is !== "up") throw notUp();
    return state.connection.call(given);
  }

  function notUp(): ToolError {
    const why = state.is === "down" ? state.why : `it is ${state.is}`;
    return new ToolError(`the MCP server ${name} is not up: ${why}`, { code: "mcp_unavailable", retryable: true });
  }

  function enter(next: State): void {
    state = next;
    for (const look of [...waiting]) look();
  }

  /** Waits until something is so, for at most `ms` milliseconds; rejects with the signal's reason. */
  function until(isSo: () => boolean, ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => {
        waiting.delete(look);
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        settle();
      };
      const look = () => {
        if (isSo() || state.is === "stopped") end(resolve);
      };
      const onAbort = () => end(() => reject(signal.reason));
      const timer = setTimeout(() => end(resolve), ms);
      waiting.add(look);
      signal.addEventListener("abort", onAbort, { once: true });
      if (signal.aborted) onAbort();
      else look();
    });
  }
}
