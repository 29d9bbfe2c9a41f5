/** A change of a stored definition as it stands in the stream, and what this daemon makes of it. */
import { z } from "zod";
import type { Agent } from "../../actors/agent.ts";
import { parseAgent } from "../../actors/define-agent.ts";
import type { HandoffOption } from "../../actors/task.ts";
import { describeProblem } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { parseWorkflow } from "../../workflows/parse-definition.ts";

/**
 * The form in which workflows are written. It goes up when something that could be written before comes to mean something
 * else; for what is new there are new keys, which a daemon that does not know them finds by itself.
 */
export const FORM = 1;
const UNREADABLE = 0;

const common = {
  v: z.literal(1),
  workflow: z.string(),
  /** Counts the changes of this workflow, from 1. */
  number: z.number().int().min(1),
  /** When it was accepted, an ISO 8601 instant. */
  at: z.string(),
  /** Who asked for it. */
  by: z.string().optional(),
};

const keyed = z.record(z.string(), z.unknown());

const putSchema = z.object({
  ...common,
  type: z.literal("put"),
  version: z.string(),
  hash: z.string(),
  form: z.number().int(),
  /** The workflow as a file has it. */
  source: keyed,
  /** The agents that came with it, as a file has them. */
  agents: z.record(z.string(), keyed),
  /** Of a handoff workflow: who may hand over to whom. */
  edges: z.record(z.string(), z.array(keyed)).optional(),
});
const deleteSchema = z.object({ ...common, type: z.literal("delete") });
const recordSchema = z.discriminatedUnion("type", [putSchema, deleteSchema]);

/** A version of a workflow, as it stands at `<prefix>.definitions.<workflow>`. */
export type PutRecord = Omit<z.output<typeof putSchema>, "edges"> & { edges?: { [agent: string]: HandoffOption[] } };
/** Any change there. */
export type DefinitionRecord = PutRecord | z.output<typeof deleteSchema>;

/** Reads a stored change; undefined where it is none, because anybody may have written there. */
export function readRecord(data: Uint8Array): DefinitionRecord | undefined {
  try {
    const read = recordSchema.safeParse(JSON.parse(Buffer.from(data).toString("utf8")));
    // Edges are as they were when they were written here; what is in them is read with the workflow.
    return read.success ? (read.data as DefinitionRecord) : undefined;
  } catch {
    return undefined;
  }
}

/** What stands for a change that cannot be read: a version nobody understands, so that nobody goes on with the one before. */
export function unreadable(workflow: string, number: number): PutRecord {
  const nothing = { source: {}, agents: {}, version: "", hash: "", at: new Date(0).toISOString() };
  return { v: 1, type: "put", workflow, number, form: UNREADABLE, ...nothing };
}

/** The definition behind a record, or why this daemon does not understand it, in words. */
export type Understood = { definition: WorkflowDefinition; trouble?: never } | { definition?: never; trouble: string };

/**
 * Reads a record's workflow anew: it is understood where its form and every key in it are known, and it comes to the very
 * definition it came to where it was accepted.
 */
export function understand({ workflow, source, form, hash, edges }: PutRecord): Understood {
  if (form === UNREADABLE) return { trouble: "its record is of a kind that this daemon does not know" };
  if (form !== FORM) return { trouble: `it is written in form ${form}, of which this daemon knows ${FORM}` };
  const { definition, problems } = parseWorkflow(workflow, source, { agents: standInsFor(edges ?? {}), open: true });
  if (!definition) return { trouble: problems.map(describeProblem).join("; ") };
  if (definition.hash === hash) return { definition };
  return { trouble: `it comes to the definition ${definition.hash} here and came to ${hash} where it was accepted` };
}

/** What a record keeps of the agents of a handoff workflow: their edges, which the workflow is read with. */
export function edgesOf(definition: WorkflowDefinition): Pick<PutRecord, "edges"> {
  return definition.kind === "handoff" ? { edges: definition.agents } : {};
}

/** Agents that are there for their edges alone, so that a handoff workflow is the same wherever its agents are. */
function standInsFor(edges: NonNullable<PutRecord["edges"]>): Map<string, Agent> {
  const agents = Object.entries(edges).flatMap(([name, options]) => {
    const handoffs = options.map(({ context, ...edge }) => ({ ...edge, context: context ?? (() => []) }));
    const { agent } = parseAgent({ name, remote: true, handoffs }, { path: "" });
    return agent ? [[name, agent] as const] : [];
  });
  return new Map(agents);
}

/** What makes two versions the same: everything that was written. */
export function contentOf(
  record: Pick<PutRecord, "version" | "hash" | "form" | "source" | "agents" | "edges">,
): object {
  const { version, hash, form, source, agents, edges } = record;
  return { version, hash, form, source, agents, edges };
}
