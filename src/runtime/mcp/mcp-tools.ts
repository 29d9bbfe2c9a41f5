/** From what an MCP server lists to tools that agents can call. */
import type { Logger } from "pino";
import { fitsPattern, mcpToolName } from "../../actors/mcp-reference.ts";
import type { ToolSpec } from "../../actors/model.ts";
import type { ExecutableTool, ToolContext, ToolEffect } from "../../actors/tool.ts";
import { ToolError } from "../../errors.ts";
import type { McpServerConfig } from "./mcp-config.ts";
import type { CheckValue, McpCall, McpListing } from "./mcp-connection.ts";
import { type McpResult, textOfResult } from "./mcp-result.ts";

/** A tool of a server. */
export type McpTool = {
  /** As the server calls it. */
  readonly original: string;
  /** As models are told of it. */
  readonly spec: ToolSpec;
  /** As it is executed, within `timeoutMs` milliseconds where nothing else is said of its time. */
  within(timeoutMs: number): ExecutableTool;
};

export type McpToolsOptions = {
  config: McpServerConfig;
  logger: Logger;
  checkBySchema(schema: McpListing["inputSchema"]): CheckValue;
  /** Makes a call that has this much time, in milliseconds. */
  call(call: McpCall & { timeoutMs: number }): Promise<McpResult>;
};

/** Providers refuse longer ones. */
const LONGEST_NAME = 64;

/** The tools that the configuration lets in, by the names models call them. */
export function toMcpTools(listings: readonly McpListing[], options: McpToolsOptions): Map<string, McpTool> {
  const { config, logger } = options;
  const { name: server, allow, deny } = config;
  const tools = new Map<string, McpTool>();
  for (const listing of listings) {
    const { name: original } = listing;
    if (!fitsPattern(allow, original) || fitsPattern(deny, original)) continue;
    const name = mcpToolName(server, original);
    const problem = name.length > LONGEST_NAME ? `its name is longer than ${LONGEST_NAME} characters` : undefined;
    const taken = tools.has(name) ? "another tool of the server is called so" : undefined;
    if (problem ?? taken) logger.warn({ tool: original, name }, `left out: ${problem ?? taken}`);
    else tools.set(name, toTool(name, listing, options));
  }
  return tools;
}

function toTool(name: string, listing: McpListing, options: McpToolsOptions): McpTool {
  const { config, logger } = options;
  const { name: original, description, inputSchema, outputSchema, hints } = listing;
  const [, settings = {}] = config.tools.find(([pattern]) => fitsPattern([pattern], original)) ?? [];
  const checkArguments = lazily(inputSchema);
  const checkOutput = outputSchema && lazily(outputSchema);
  return {
    original,
    spec: { name, description, parameters: inputSchema },
    within(fallback) {
      const timeoutMs = settings.timeoutMs ?? config.timeoutMs ?? fallback;
      const effect = effectOf(hints);
      return {
        name,
        description,
        effect,
        ...settings,
        timeoutMs,
        execute: (args, context) => execute(args, context, timeoutMs),
      };
    },
  };

  async function execute(args: { [key: string]: unknown }, context: ToolContext, timeoutMs: number): Promise<string> {
    const problem = checkArguments()?.(args);
    if (problem !== undefined) throw wrong(`${name}: ${problem}`);
    const { idempotencyKey, signal, progress } = context;
    const result = await options.call({ tool: original, args, idempotencyKey, signal, progress, timeoutMs });
    const text = textOfResult(result);
    if (result.isError) throw new ToolError(text || `${name} failed and says nothing of it`);
    const misfit = checkOutput && result.structuredContent && checkOutput()?.(result.structuredContent);
    if (misfit !== undefined)
      throw wrong(`${name} was executed, and what it returned is not what it promises: ${misfit}`);
    return text;
  }

  /** Making a check costs far more than using it, and most tools are never called. */
  function lazily(schema: McpListing["inputSchema"]): () => CheckValue | undefined {
    let made: { check: CheckValue | undefined } | undefined;
    return () => {
      made ??= { check: tryCheck(schema) };
      return made.check;
    };
  }

  function tryCheck(schema: McpListing["inputSchema"]): CheckValue | undefined {
    try {
      return options.checkBySchema(schema);
    } catch (error) {
      // The server checks its arguments itself.
      logger.warn({ tool: original, err: error }, "a schema of this tool cannot be used to check anything");
      return undefined;
    }
  }
}

/** A server that says nothing of it may do something twice. */
function effectOf({ readOnly, idempotent }: McpListing["hints"]): ToolEffect {
  if (readOnly) return "read";
  return idempotent ? "idempotent" : "once";
}

function wrong(message: string): ToolError {
  return new ToolError(message, { retryable: false });
}
