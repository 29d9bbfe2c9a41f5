/**
 * How agents refer to tools of MCP servers, and what those are called. Which tools a server has is known only while it runs; what
 * is decided here follows from names alone, so that a fold decides the same whether or not the server is there.
 */
import { z } from "zod";
import { handoffToolName, nameSchema } from "./names.ts";

const EXPECTED =
  'expected an MCP server\'s name, perhaps with tools of it, as in "files", "files.read" or "files.read_*"';

/** The schema of a reference: a server, or a server and a pattern of names. */
export const mcpReferenceSchema = z
  .string({ error: EXPECTED })
  .refine((text) => nameSchema.safeParse(serverOf(text)).success && !text.endsWith("."), { error: EXPECTED });

/** The server a reference is to. */
export function serverOf(reference: string): string {
  return reference.split(".", 1)[0] ?? "";
}

/** The tool's name as the server knows it, with wildcards; all of them where the reference names only the server. */
export function patternOf(reference: string): string {
  const server = serverOf(reference);
  return reference === server ? "*" : reference.slice(server.length + 1);
}

/** What models call the tool `tool` of `server`: providers take letters, digits, "-" and "_". */
export function mcpToolName(server: string, tool: string): string {
  return `${server}_${tool.replaceAll(/[^A-Za-z0-9_-]/g, "_")}`;
}

/** Whether a tool of this name is one of a server that the agent refers to. */
export function isMcpTool(references: readonly string[], name: string): boolean {
  return references.some((reference) => name.startsWith(mcpToolName(serverOf(reference), "")));
}

/** Why a server cannot be called so beside the others; undefined where it can. */
export function problemOfServerName(name: string, others: readonly string[]): string | undefined {
  const [prefix, handoff] = [mcpToolName(name, ""), handoffToolName("")];
  if (prefix.startsWith(handoff) || handoff.startsWith(prefix)) {
    return `a name whose tools are not taken for handoffs (${handoff}…)`;
  }
  const shorter = others.find((other) => other !== name && prefix.startsWith(mcpToolName(other, "")));
  return shorter === undefined
    ? undefined
    : `a name that does not begin with ${shorter}_, as the tools of ${shorter} do`;
}

/** Whether a name fits one of the patterns, in which `*` stands for any letters. */
export function fitsPattern(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => pattern === "*" || pattern === name || toRegExp(pattern).test(name));
}

function toRegExp(pattern: string): RegExp {
  const parts = pattern.split("*").map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`, "s");
}
