/** Turns what somebody wrote as a workflow into its definition, or into everything that is wrong with it. */
import type { z } from "zod";
import { problemsOfSchema } from "../actors/check-agent.ts";
import { type Read, readBySchema } from "../actors/read-by-schema.ts";
import { oneOf, type Place, placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import { toJsonSchema } from "../actors/schemas.ts";
import type { WorkflowDefinition } from "./definition.ts";
import {
  type DeterministicDraft,
  deterministicSchema,
  type HandoffDraft,
  handoffSchema,
  KINDS,
} from "./definition-schema.ts";
import { finishDeterministic } from "./finish-deterministic.ts";
import { finishHandoff } from "./finish-handoff.ts";
import type { CommonParts, ParsedWorkflow, WorkflowSources } from "./workflow-sources.ts";
import { keepWritten } from "./written-workflow.ts";

/** Reads the workflow called `name`; `raw` need not repeat the name. Never throws. */
export function parseWorkflow(name: string, raw: unknown, sources: WorkflowSources): ParsedWorkflow {
  const place = { ...sources, path: sources.path ?? `workflows.${name}` };
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    return { problems: [problemAt(place, "an object", showValue(raw))] };
  }
  const kind = kindOf(raw);
  if (!kind) {
    const got = showValue((raw as { kind?: unknown }).kind);
    return { problems: [problemAt(placeAt(place, "kind"), oneOf(KINDS.map((known) => `"${known}"`)), got)] };
  }
  const schema: z.ZodType<DeterministicDraft | HandoffDraft> = kind === "handoff" ? handoffSchema : deterministicSchema;
  const read = readBySchema(schema, { name, ...raw }, placeAt(place), (draft) => finish(name, draft, place));
  if (!read.value) return { problems: read.problems };
  keepWritten(read.value, raw);
  return { definition: read.value, problems: [] };
}

/** What it is called, or what its shape tells: only handoffs have an entry and limits. */
function kindOf(raw: object): (typeof KINDS)[number] | undefined {
  if ("kind" in raw && raw.kind !== undefined) return KINDS.find((kind) => kind === raw.kind);
  return "entry" in raw || "maxHandoffs" in raw || "maxVisits" in raw ? "handoff" : "deterministic";
}

function finish(
  name: string,
  draft: DeterministicDraft | HandoffDraft,
  sources: WorkflowSources & Place,
): Read<WorkflowDefinition> {
  const inputProblems = problemsOfSchema(draft.input, placeAt(sources, "input"));
  const outputProblems = problemsOfSchema(draft.output, placeAt(sources, "output"));
  const problems = [...inputProblems, ...outputProblems];
  if (draft.name !== name) problems.push(problemAt(placeAt(sources, "name"), showValue(name), showValue(draft.name)));
  const common = commonParts(draft, problems.length === 0);
  const read =
    draft.kind === "handoff" ? finishHandoff(draft, common, sources) : finishDeterministic(draft, common, sources);
  return problems.length > 0 ? { problems: [...problems, ...read.problems] } : read;
}

function commonParts(draft: DeterministicDraft | HandoffDraft, schemasFit: boolean): CommonParts {
  const { name, version, description, input, output, timeoutMs, schedule } = draft;
  return {
    name,
    version,
    ...(description === undefined ? {} : { description }),
    // A request may say more than a workflow reads, so the schema stays open.
    ...(input === undefined || !schemasFit ? {} : { input: toJsonSchema(input, { closed: false }) }),
    ...(output === undefined || !schemasFit ? {} : { output: toJsonSchema(output, { closed: false }) }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(schedule === undefined ? {} : { schedule }),
  };
}
