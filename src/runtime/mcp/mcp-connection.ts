/**
 * One connection to one MCP server, through the official SDK. Nothing else imports the SDK, and this file is only loaded where
 * there is a server.
 */
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport, StreamableHTTPError } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CallToolResultSchema,
  ErrorCode,
  ListToolsResultSchema,
  LoggingMessageNotificationSchema,
  McpError,
  ToolListChangedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { AjvJsonSchemaValidator } from "@modelcontextprotocol/sdk/validation/ajv";
import type { Logger } from "pino";
import { LONGEST_TIMER_MS } from "../../actors/durations.ts";
import type { JsonSchema } from "../../actors/model.ts";
import type { ToolProgress } from "../../actors/tool.ts";
import { ToolError } from "../../errors.ts";
import { VERSION } from "../version.ts";
import { withinTime } from "../within-time.ts";
import { logLines } from "./log-lines.ts";
import type { McpServerConfig } from "./mcp-config.ts";
import type { McpResult } from "./mcp-result.ts";

/** A tool as its server lists it. */
export type McpListing = {
  name: string;
  description: string;
  /** Of its arguments. */
  inputSchema: JsonSchema;
  outputSchema?: JsonSchema;
  /** What the server says of repeating it. */
  hints: { readOnly: boolean; idempotent: boolean };
};

export type McpCall = {
  tool: string;
  args: { [key: string]: unknown };
  idempotencyKey: string;
  signal: AbortSignal;
  progress(how: ToolProgress): void;
};

export type McpConnection = {
  /** Resolves with the reason when the connection has ended. */
  readonly closed: Promise<string>;
  /** Rejects where the server does not answer in its time. */
  listTools(): Promise<McpListing[]>;
  /** Rejects with a ToolError: `mcp_unavailable` where the call has not reached the server, `outcome_unknown` where nobody knows. */
  call(call: McpCall): Promise<McpResult>;
  /** Makes a check of a JSON Schema of any dialect and with any keyword. Throws where it is not one. */
  checkBySchema(schema: JsonSchema): CheckValue;
  /** Ends it, and the process behind it. */
  close(): Promise<void>;
};

export type McpConnectionOptions = {
  logger: Logger;
  /** The server says that its tools have changed. */
  onToolsChanged(): void;
  /** Ends it, however far it has come. */
  signal: AbortSignal;
};

/** A message beyond this ends the connection: twice the largest value that can be recorded by default. */
const MAX_MESSAGE_BYTES = 128 * 1_024 * 1_024;
/** How long a server may take to answer when it is doubted that it is there, in milliseconds. */
const PING_MS = 5_000;
/** How long saying goodbye may take, in milliseconds. */
const GOODBYE_MS = 1_000;

/** Says what is wrong with a value, by a JSON Schema; undefined where nothing is. */
export type CheckValue = (value: unknown) => string | undefined;

const validator = new AjvJsonSchemaValidator();

function checkBySchema(schema: JsonSchema): CheckValue {
  const validate = validator.getValidator(schema);
  return (value) => {
    const { valid, errorMessage } = validate(value);
    return valid ? undefined : (errorMessage ?? "not what its schema says");
  };
}

/** Connects to a server; rejects when it cannot be started, reached, or understood in its time. */
export async function connectMcp(config: McpServerConfig, options: McpConnectionOptions): Promise<McpConnection> {
  const { logger, signal } = options;
  const { startTimeoutMs } = config;
  const client = new Client({ name: "troupe", version: VERSION }, { capabilities: {} });
  const transport = openTransport(config, logger);
  const { promise: closed, resolve: close } = Promise.withResolvers<string>();
  let lastError: string | undefined;
  let inFlight = 0;
  let doubted = false;
  let ending: Promise<void> | undefined;

  client.onclose = () => close(lastError ?? "the connection was closed");
  client.onerror = (error) => {
    lastError = error.message;
    logger.debug({ err: error }, "an MCP connection has trouble");
    // Nobody listens for it any more.
    if (/^Maximum reconnection attempts/.test(error.message)) void end();
    else void doubt();
  };
  client.setNotificationHandler(ToolListChangedNotificationSchema, () => options.onToolsChanged());
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
    logger[levelOf(params.level)](typeof params.data === "string" ? params.data : JSON.stringify(params.data));
  });
  const onAbort = () => void end();
  signal.addEventListener("abort", onAbort, { once: true });
  void closed.then(() => signal.removeEventListener("abort", onAbort));
  try {
    signal.throwIfAborted();
    // The SDK's own transport has a session id that may be undefined, which its type of a transport does not allow.
    await client.connect(transport as Parameters<Client["connect"]>[0], { timeout: startTimeoutMs });
  } catch (error) {
    await end();
    throw error;
  }
  return { closed, listTools, call, checkBySchema, close: end };

  async function listTools(): Promise<McpListing[]> {
    const listings: McpListing[] = [];
    let cursor: string | undefined;
    do {
      const page = await client.request(
        { method: "tools/list", params: cursor === undefined ? {} : { cursor } },
        ListToolsResultSchema,
        { timeout: startTimeoutMs },
      );
      for (const { name, title, description, inputSchema, outputSchema, annotations = {} } of page.tools) {
        listings.push({
          name,
          description: description || title || annotations.title || name,
          inputSchema,
          ...(outputSchema && { outputSchema }),
          hints: { readOnly: annotations.readOnlyHint === true, idempotent: annotations.idempotentHint === true },
        });
      }
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    return listings;
  }

  async function call({ tool, args, idempotencyKey, signal: stop, progress }: McpCall): Promise<McpResult> {
    const _meta = { "troupe/idempotencyKey": idempotencyKey };
    inFlight += 1;
    try {
      return await client.request(
        { method: "tools/call", params: { name: tool, arguments: args, _meta } },
        CallToolResultSchema,
        {
          signal: stop,
          // Whoever calls has its own time.
          timeout: LONGEST_TIMER_MS,
          onprogress: ({ progress: done, total, message }) => progress(readProgress(done, total, message)),
        },
      );
    } catch (error) {
      if (stop.aborted) throw error;
      throw toToolError(config.name, error, end);
    } finally {
      inFlight -= 1;
    }
  }

  /** A server that died leaves calls over HTTP without an answer, and an error is all there is to see of it. */
  async function doubt(): Promise<void> {
    if (config.reach.by !== "http" || inFlight === 0 || doubted) return;
    doubted = true;
    try {
      await client.ping({ timeout: PING_MS });
      doubted = false;
    } catch {
      await end();
    }
  }

  function end(): Promise<void> {
    ending ??= disconnect().catch((error: unknown) =>
      logger.debug({ err: error }, "an MCP connection did not end cleanly"),
    );
    return ending;
  }

  async function disconnect(): Promise<void> {
    if ("terminateSession" in transport) {
      await withinTime(transport.terminateSession(), GOODBYE_MS).catch(() => {});
    }
    await client.close();
    // A connection that never came about has no client behind it.
    await transport.close();
    close(lastError ?? "the connection was closed");
  }
}

function openTransport(
  { reach }: McpServerConfig,
  logger: Logger,
): StdioClientTransport | StreamableHTTPClientTransport {
  if (reach.by === "http") {
    const fromEnv = Object.entries(reach.headersEnv).map(([header, variable]) => [header, variableOf(variable)]);
    const headers = { ...reach.headers, ...(Object.fromEntries(fromEnv) as { [header: string]: string }) };
    return new StreamableHTTPClientTransport(reach.url, { requestInit: { headers } });
  }
  const inherited = Object.fromEntries(reach.inheritEnv.map((variable) => [variable, variableOf(variable)]));
  const { command, args, cwd } = reach;
  const env = { ...inherited, ...reach.env };
  const transport = new StdioClientTransport({
    command,
    args,
    cwd,
    env,
    stderr: "pipe",
    maxBufferSize: MAX_MESSAGE_BYTES,
  });
  if (transport.stderr) logLines(transport.stderr, (line) => logger.info(line));
  return transport;
}

function variableOf(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`expected the environment variable ${name}, got nothing`);
  return value;
}

function levelOf(level: string): "debug" | "info" | "warn" | "error" {
  switch (level) {
    case "debug":
      return "debug";
    case "info":
    case "notice":
      return "info";
    case "warning":
      return "warn";
    default:
      return "error";
  }
}

function readProgress(done: number, total: number | undefined, message: string | undefined): ToolProgress {
  const percent = total === undefined || total <= 0 ? undefined : (done / total) * 100;
  return {
    ...(percent !== undefined && { percent }),
    ...(message !== undefined ? { message } : percent === undefined && { message: String(done) }),
  };
}

/** Tells apart what has not reached the server, what nobody knows, and what the server itself says. */
function toToolError(server: string, error: unknown, end: () => Promise<void>): ToolError {
  const message = `the MCP server ${server}: ${error instanceof Error ? error.message : String(error)}`;
  const unavailable = () => new ToolError(message, { code: "mcp_unavailable", retryable: true, cause: error });
  const unknown = () => new ToolError(message, { code: "outcome_unknown", retryable: true, cause: error });
  if (error instanceof McpError) {
    if (error.code === ErrorCode.ConnectionClosed) return unknown();
    return new ToolError(message, { code: "mcp_error", retryable: false, cause: error });
  }
  if (error instanceof StreamableHTTPError) {
    const status = error.code ?? 0;
    if (status === 401 || status === 403) return new ToolError(message, { code: "mcp_unavailable", retryable: false });
    // The session is one that the server does not know any more: a new connection has a new one.
    if (status === 400 || status === 404) void end();
    return status >= 400 && status < 500 ? unavailable() : unknown();
  }
  // It has answered, in a form that is none of the protocol's.
  if (error instanceof Error && "issues" in error)
    return new ToolError(message, { code: "mcp_error", retryable: false });
  // Of the network, or of a process that is gone.
  void end();
  return wasNotSent(error) ? unavailable() : unknown();
}

const NOT_SENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"]);

function wasNotSent(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error.message === "Not connected") return true;
  return typeof error.cause === "object" && error.cause !== null && "code" in error.cause
    ? NOT_SENT.has(String(error.cause.code))
    : false;
}
