/** Calls of an agent's own tools, read before anything is executed. */
import type { Agent } from "./agent.ts";
import type { ToolCall } from "./conversation.ts";
import { isMcpTool, mcpToolName, serverOf } from "./mcp-reference.ts";
import { showValue } from "./schema-problems.ts";
import type { Tool } from "./tool.ts";

/** Either what to execute, or the answer that lets the model correct itself. */
export type ReadCall = { ok: true; tool?: Tool; args: unknown } | { ok: false; answer: string };

/** Finds the tool and checks the arguments, but for those of MCP servers: there is only a name. */
export function readCall(call: ToolCall, { tools, mcp }: Pick<Agent, "tools" | "mcp">): ReadCall {
  const tool = tools.find((candidate) => candidate.name === call.name);
  if (!tool && !isMcpTool(mcp, call.name)) {
    const servers = new Set(mcp.map((reference) => `${mcpToolName(serverOf(reference), "")}…`));
    const names = [...tools.map((candidate) => candidate.name), ...servers].join(", ") || "none";
    return refused(`there is no tool ${JSON.stringify(call.name)}; there are: ${names}`);
  }
  const raw = readArguments(call.arguments);
  if (!raw) return refused(`expected the arguments of ${call.name} as a JSON object, got ${showValue(call.arguments)}`);
  if (!tool) return { ok: true, args: raw };
  try {
    const parsed = tool.parameters.safeParse(raw);
    if (parsed.success) return { ok: true, tool, args: parsed.data };
    const problems = parsed.error.issues.map((issue) => `${issue.path.join(".") || "arguments"}: ${issue.message}`);
    return refused(`${call.name}: ${problems.join("; ")}`);
  } catch (error) {
    // A refinement of the user's own threw.
    return refused(`${call.name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The arguments of a call, where they are a JSON object; models write nothing for no arguments. */
export function readArguments(text: string): { [key: string]: unknown } | undefined {
  if (text.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

function refused(what: string): ReadCall {
  return { ok: false, answer: `error: ${what}` };
}
