/** The JSON Schema of a configuration file, for editors: made of the schemas that files are read with. */
import { z } from "zod";
import { agentSchema } from "../../actors/agent-schema.ts";
import type { JsonSchema } from "../../actors/model.ts";
import { deterministicSchema, handoffSchema, stepSchema } from "../../workflows/definition-schema.ts";
import { scheduleSchema, scheduleTermsSchema } from "../../workflows/schedule-schema.ts";
import { httpSchema, processSchema } from "../mcp/mcp-config.ts";
import { ENDPOINT_KEYS, MODULE_KEYS } from "../models/provider-config.ts";
import { AGENT_WORDS, SCHEDULE_WORDS, SECTION_WORDS, STEP_WORDS, WORKFLOW_WORDS } from "./config-words.ts";
import { pricesSchema } from "./load-config.ts";
import { referenceSchema } from "./load-tools.ts";
import { OPTION_KEYS, type OptionKey, optionOf } from "./options.ts";

type Words = { readonly [key: string]: string };

/** What is said of the keys of an object, and whether it has its name before it, where files have names. */
const MARKS = {
  agent: { words: AGENT_WORDS, isNamed: true },
  workflow: { words: WORKFLOW_WORDS, isNamed: true },
  step: { words: STEP_WORDS, isNamed: false },
  terms: { words: SCHEDULE_WORDS, isNamed: false },
  schedule: { words: SCHEDULE_WORDS, isNamed: true },
  file: { words: SECTION_WORDS, isNamed: false },
} as const;
const MARK = "x-mark";

const MARKED = new Map<unknown, keyof typeof MARKS>([
  [agentSchema, "agent"],
  [deterministicSchema, "workflow"],
  [handoffSchema, "workflow"],
  [stepSchema, "step"],
  [scheduleTermsSchema, "terms"],
  [scheduleSchema, "schedule"],
]);

const providerSchema = z.unknown().meta({ anyOf: [objectOf(ENDPOINT_KEYS), objectOf(MODULE_KEYS)] });

/** Gives the schema, in the dialect that editors know best (draft-07). */
export function configJsonSchema(): JsonSchema {
  const file = z.strictObject({
    agents: z.record(z.string(), agentSchema).nullish(),
    tools: z.record(z.string(), referenceSchema).nullish(),
    mcpServers: z.record(z.string(), z.union([processSchema, httpSchema])).nullish(),
    providers: z.record(z.string(), providerSchema).nullish(),
    prices: pricesSchema.nullish(),
    workflows: z.record(z.string(), z.union([deterministicSchema, handoffSchema])).nullish(),
    schedules: z.record(z.string(), scheduleSchema).nullish(),
    daemon: z.unknown().meta(daemonSchema()).nullish(),
  });
  const { $schema, ...made } = z.toJSONSchema(file, {
    target: "draft-7",
    io: "input",
    unrepresentable: "any",
    override({ zodSchema, jsonSchema }) {
      const mark = (zodSchema as unknown) === file ? "file" : MARKED.get(zodSchema);
      if (mark) (jsonSchema as JsonSchema)[MARK] = mark;
    },
  });
  const told = { title: "Troupe", description: "Agents, workflows and options of a Troupe daemon." };
  return { $schema, ...told, ...(finished(made) as JsonSchema) };
}

/** What zod has no words for: descriptions, names that stand elsewhere, branches that only TypeScript has. */
function finished(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(finished);
  if (!isObject(value)) return value;
  const { [MARK]: mark, ...plain } = value;
  const schema = Object.fromEntries(Object.entries(plain).map(([key, item]) => [key, finished(item)]));
  if (Array.isArray(schema.anyOf))
    schema.anyOf = schema.anyOf.filter((branch) => !isObject(branch) || !isEmpty(branch));
  // zod's whole numbers carry the limits of JavaScript.
  if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
  const marked = typeof mark === "string" && mark in MARKS ? MARKS[mark as keyof typeof MARKS] : undefined;
  return marked ? described(schema, marked.words, marked.isNamed) : schema;
}

function described(schema: JsonSchema, words: Words, isNamed: boolean): JsonSchema {
  const properties = Object.entries(isObject(schema.properties) ? schema.properties : {}).map(([key, property]) => {
    const said = words[key];
    return [key, said === undefined || !isObject(property) ? property : { description: said, ...property }];
  });
  const required = Array.isArray(schema.required) ? schema.required.filter((key) => !isNamed || key !== "name") : [];
  const { required: _all, ...rest } = schema;
  return { ...rest, properties: Object.fromEntries(properties), ...(required.length > 0 && { required }) };
}

/** The text of the schema as it is published. */
export function renderConfigSchema(): string {
  return `${JSON.stringify(configJsonSchema(), null, 2)}\n`;
}

function objectOf(keys: { readonly [key: string]: { readonly expected: string } }): JsonSchema {
  const properties = Object.entries(keys).map(([key, { expected }]) => [key, { description: `${expected}.` }]);
  return { type: "object", properties: Object.fromEntries(properties), additionalProperties: false };
}

function daemonSchema(): JsonSchema {
  const properties = OPTION_KEYS.map((key) => [key, optionSchema(key)]);
  return { type: "object", properties: Object.fromEntries(properties), additionalProperties: false };
}

function optionSchema(key: OptionKey): JsonSchema {
  const { kind, doc, default: fallback } = optionOf(key);
  return {
    description: `${doc} (${kind.expected})`,
    ...typeOf(kind.shown),
    ...(fallback !== undefined && { default: fallback }),
  };
}

/** What a value may be by the column `type` of the table of options. */
function typeOf(shown: string): JsonSchema {
  switch (shown) {
    case "number":
    case "duration":
    case "size":
      return { type: ["number", "string"] };
    case "list":
      return { type: ["array", "string"], items: { type: "string" } };
    case "true, false":
      return { type: "boolean" };
    case "text":
    case "path":
      return { type: "string" };
    default:
      return { enum: shown.split(", ") };
  }
}

function isObject(value: unknown): value is JsonSchema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isEmpty(value: object): boolean {
  return Object.keys(value).length === 0;
}
