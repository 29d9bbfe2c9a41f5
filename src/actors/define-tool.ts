/** Makes tools: a name, what the model is told, a zod schema for the arguments, and the function. */
import { z } from "zod";
import { DefinitionError } from "../errors.ts";
import { durationSchema } from "./durations.ts";
import { handoffToolName, nameSchema } from "./names.ts";
import { joinPath, problemAt, problemsOf, showValue } from "./schema-problems.ts";
import { isZodSchema, toJsonSchema } from "./schemas.ts";
import { strict } from "./strict.ts";
import type { Tool, ToolContext } from "./tool.ts";

export type ToolOptions<Parameters extends z.ZodObject> = {
  name: string;
  /** Tells the model what it does and when to use it. */
  description: string;
  /** A zod object; the arguments of `execute` are inferred from it. */
  parameters: Parameters;
  /** How long one execution may take, in milliseconds. @default the agent's `toolTimeoutMs` */
  timeoutMs?: number;
  /** What it returns goes to the model, as JSON unless it is text. It may run more than once: see `idempotencyKey`. */
  execute: (args: z.output<Parameters>, context: ToolContext) => unknown;
};

const RESERVED = handoffToolName("");

const toolSchema = strict({
  name: nameSchema.refine((name) => !name.startsWith(RESERVED), {
    error: `expected a name that does not begin with ${RESERVED}, which is for handoffs`,
  }),
  description: z.string().min(1),
  parameters: z.custom<z.ZodObject>(isZodObject, { error: "expected a zod object, as in z.object({…})" }),
  timeoutMs: durationSchema.optional(),
  execute: z.custom<Tool["execute"]>((value) => typeof value === "function", { error: "expected a function" }),
});

/**
 * Defines a tool.
 *
 * @throws DefinitionError with everything that is wrong with it.
 */
export function defineTool<Parameters extends z.ZodObject>(options: ToolOptions<Parameters>): Tool {
  const name = (options as Partial<typeof options> | undefined)?.name;
  const place = { path: typeof name === "string" && name !== "" ? joinPath("tools", [name]) : "tool" };
  const parsed = toolSchema.safeParse(options);
  if (!parsed.success) throw new DefinitionError(problemsOf(parsed.error.issues, options, place));
  assertExpressible(parsed.data.parameters, `${place.path}.parameters`);
  const { timeoutMs, ...tool } = parsed.data;
  return Object.freeze({ ...tool, ...(timeoutMs === undefined ? {} : { timeoutMs }) });
}

/** Whether a value can be used as a tool; it may come from another copy of Troupe. */
export function isTool(value: unknown): value is Tool {
  return toolSchema.safeParse(value).success;
}

function isZodObject(value: unknown): boolean {
  return isZodSchema(value) && value._zod.def.type === "object";
}

/** A schema the model cannot be told about would fail at the first call; better when it is defined. */
function assertExpressible(parameters: z.ZodType, path: string): void {
  try {
    toJsonSchema(parameters);
  } catch (error) {
    const why = error instanceof Error ? error.message : showValue(error);
    throw new DefinitionError([problemAt({ path }, "a schema that JSON Schema can express", why)]);
  }
}
