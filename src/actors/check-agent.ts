/** What a schema of one agent cannot see: names that clash, schemas nobody can use, handoffs into nowhere. */
import type { z } from "zod";
import type { Problem } from "../errors.ts";
import type { Agent, HandoffEdge } from "./agent.ts";
import type { JsonSchema } from "./model.ts";
import { HANDOFF_NAME_LENGTH } from "./names.ts";
import { oneOf, type Place, placeAt, problemAt, showValue } from "./schema-problems.ts";
import { assertSupported, isZodSchema, toJsonSchema } from "./schemas.ts";

type Draft = Pick<Agent, "name" | "remote" | "tools" | "handoffs"> & {
  instructions?: string | undefined;
  model?: unknown;
  output?: Agent["output"] | undefined;
};

/** Everything wrong with an agent by itself. */
export function problemsOfAgent(agent: Draft, place: Place): Problem[] {
  return [
    ...missingWords(agent, place),
    ...clashingTools(agent, place),
    ...agent.handoffs.flatMap((edge, index) => problemsOfEdge(agent, edge, index, placeAt(place, "handoffs", index))),
    ...problemsOfSchema(agent.output, placeAt(place, "output")),
  ];
}

function missingWords(agent: Draft, place: Place): Problem[] {
  if (agent.remote) return [];
  const missing = (["instructions", "model"] as const).filter((key) => !agent[key]);
  return missing.map((key) =>
    problemAt(placeAt(place, key), "text (only remote agents do without)", showValue(agent[key])),
  );
}

function clashingTools({ tools }: Draft, place: Place): Problem[] {
  return tools.flatMap(({ name }, index) => {
    if (tools.findIndex((other) => other.name === name) === index) return [];
    return [problemAt(placeAt(place, "tools", index), "a name no other tool of the agent has", showValue(name))];
  });
}

function problemsOfEdge(agent: Draft, edge: HandoffEdge, index: number, place: Place): Problem[] {
  const problems = problemsOfSchema(edge.input, placeAt(place, "input"));
  const got = showValue(edge.to);
  const first = agent.handoffs.findIndex((other) => other.to === edge.to);
  if (first !== index) problems.push(problemAt(place, "each agent at most once", got));
  if (edge.to === agent.name) problems.push(problemAt(place, "another agent", got));
  if (edge.to.length > HANDOFF_NAME_LENGTH) {
    problems.push(problemAt(place, `an agent whose name has at most ${HANDOFF_NAME_LENGTH} characters`, got));
  }
  return problems;
}

/** Finds out now whether a schema can be shown to a model and checked against. */
export function problemsOfSchema(schema: z.ZodType | JsonSchema | undefined, place: Place): Problem[] {
  if (schema === undefined) return [];
  const isZod = isZodSchema(schema);
  try {
    if (isZod) toJsonSchema(schema);
    else assertSupported(schema);
    return [];
  } catch (error) {
    const expected = isZod ? "a schema that JSON Schema can express" : "a JSON Schema that can be checked";
    return [problemAt(place, expected, error instanceof Error ? error.message : showValue(error))];
  }
}

/** Whom an agent hands over to, as far as that is known. */
export type Targets = { readonly name: string; readonly handoffs: readonly { readonly to: string }[] };

/** The targets of what somebody wrote as an agent and what is none, so that they are checked with the others. */
export function writtenTargets(name: string, raw: unknown): Targets {
  const handoffs = typeof raw === "object" && raw !== null && "handoffs" in raw ? raw.handoffs : undefined;
  const to = (target: unknown): unknown =>
    typeof target === "object" && target !== null
      ? "to" in target
        ? target.to
        : "name" in target && target.name
      : target;
  const names = Array.isArray(handoffs) ? handoffs.map(to) : [];
  // A place that holds no name is told elsewhere; the others keep their numbers.
  return { name, handoffs: names.map((target) => ({ to: typeof target === "string" ? target : name })) };
}

/** Handoffs to agents that are not among `known`; `placeOf` says where an agent stands. */
export function unknownHandoffs(
  agents: Iterable<Targets>,
  known: ReadonlySet<string>,
  placeOf: (name: string) => Place,
): Problem[] {
  return [...agents].flatMap((agent) =>
    agent.handoffs.flatMap((edge, index) => {
      if (known.has(edge.to)) return [];
      const place = placeAt(placeOf(agent.name), "handoffs", index);
      return [problemAt(place, `the name of an agent: ${oneOf([...known])}`, showValue(edge.to))];
    }),
  );
}
