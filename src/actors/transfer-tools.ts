/** Handoffs as the handing agent's model sees them: one tool for each agent it may hand over to. */
import type { ToolCall } from "./conversation.ts";
import type { JsonSchema, ToolSpec } from "./model.ts";
import { handoffToolName } from "./names.ts";
import { validateOutput } from "./schemas.ts";
import type { HandoffOption, Task } from "./task.ts";
import { readArguments } from "./tool-calls.ts";

/** A handoff the model asked for, checked. */
export type Transfer = { callId: string; to: string; reason?: string; input?: unknown; summary?: string };

/** What became of a call of a transfer tool. */
export type ReadTransfer =
  | { type: "transfer"; transfer: Transfer }
  /** A limit of the run forbids it, and with it all handoffs to `refused`. */
  | { type: "limit"; to: string; refused: string[]; answer: string }
  /** The model called it wrongly and may try again. */
  | { type: "problem"; answer: string };

const PREFIX = handoffToolName("");

/** Whether a tool of this name hands over, to whomever. */
export function isTransferTool(name: string): boolean {
  return name.startsWith(PREFIX);
}

/** The tools for all handoffs but those to agents in `refused`. */
export function transferTools(options: readonly HandoffOption[], refused: readonly string[] = []): ToolSpec[] {
  return options.filter((option) => !refused.includes(option.to)).map(transferTool);
}

function transferTool({ to, description, input, context }: HandoffOption): ToolSpec {
  const properties: JsonSchema = { reason: { type: "string", description: "Why, in one sentence." } };
  const required: string[] = [];
  if (input) {
    properties.input = input;
    required.push("input");
  }
  if (context === "summary") {
    properties.summary = {
      type: "string",
      description: `What ${to} has to know of the conversation so far; it sees nothing else of it.`,
    };
    required.push("summary");
  }
  return {
    name: handoffToolName(to),
    description: `Hands the conversation over to ${to}, who goes on from here.${description ? ` ${description}` : ""}`,
    parameters: { type: "object", properties, ...(required.length > 0 && { required }), additionalProperties: false },
  };
}

/** Reads a call of a transfer tool against what the task allows. */
export function readTransfer(call: ToolCall, task: Pick<Task, "agent" | "handoffs" | "hops" | "limits">): ReadTransfer {
  const to = call.name.slice(PREFIX.length);
  const option = task.handoffs.find((candidate) => candidate.to === to);
  if (!option) {
    const allowed = task.handoffs.map((candidate) => candidate.to).join(", ") || "nobody";
    return problem(`there is no handoff to ${JSON.stringify(to)}; you may hand over to: ${allowed}`);
  }
  const limit = limitReached(task, to);
  if (limit) {
    const refused = task.handoffs.map((candidate) => candidate.to).filter((other) => limitReached(task, other));
    return { type: "limit", to, refused, answer: `error: ${limit}: answer the user yourself` };
  }
  const args = readArguments(call.arguments);
  if (!args) return problem(`expected the arguments of ${call.name} as a JSON object, got ${call.arguments}`);
  const wrong = wrongArguments(args, option);
  if (wrong) return problem(`${call.name}: ${wrong}`);
  return {
    type: "transfer",
    transfer: {
      callId: call.id,
      to,
      ...(typeof args.reason === "string" && args.reason !== "" && { reason: args.reason }),
      ...(option.input && { input: args.input }),
      ...(typeof args.summary === "string" && { summary: args.summary }),
    },
  };
}

/** What forbids one more handoff to `to`, if anything does. The agent a run begins with has had it once. */
function limitReached(
  { agent, hops, limits }: Pick<Task, "agent" | "hops" | "limits">,
  to: string,
): string | undefined {
  const { maxHandoffs, maxVisits } = limits;
  if (maxHandoffs !== undefined && hops.length >= maxHandoffs) {
    return `the limit of ${maxHandoffs} handoffs is reached`;
  }
  const entry = hops[0]?.from ?? agent;
  const visits = hops.filter((hop) => hop.to === to).length + (entry === to ? 1 : 0);
  if (maxVisits !== undefined && visits >= maxVisits) {
    return `${to} has had the conversation ${visits} times, which is the limit`;
  }
  return undefined;
}

function wrongArguments(args: { [key: string]: unknown }, option: HandoffOption): string | undefined {
  if (option.context === "summary" && (typeof args.summary !== "string" || args.summary.trim() === "")) {
    return "summary: expected text, got none";
  }
  if (!option.input) return undefined;
  const checked = validateOutput(option.input, args.input);
  return checked.ok ? undefined : `input: ${checked.problems.join("; ")}`;
}

function problem(what: string): ReadTransfer {
  return { type: "problem", answer: `error: ${what}` };
}
