/** What a tool may be made of: the schema behind `defineTool`, and what an MCP server's tools may be given in addition. */
import { z } from "zod";
import { durationSchema } from "./durations.ts";
import type { JsonSchema } from "./model.ts";
import { handoffToolName, nameSchema } from "./names.ts";
import { retrySchema } from "./retry-schema.ts";
import { isZodSchema } from "./schemas.ts";
import { strict } from "./strict.ts";
import type { Tool } from "./tool.ts";

const RESERVED = handoffToolName("");

const functionSchema = <T>() => z.custom<T>((value) => typeof value === "function", { error: "expected a function" });

/** How a tool is executed, whoever made it. */
export const executionShape = {
  timeoutMs: durationSchema.optional(),
  maxResultBytes: z.number().int().min(1).optional(),
  retry: retrySchema.optional(),
  effect: z.enum(["read", "idempotent", "once"]).optional(),
  onUnknown: z
    .union([z.enum(["fail", "stop"]), functionSchema<Extract<Tool["onUnknown"], (...args: never) => unknown>>()], {
      error: 'expected "fail", "stop" or a function',
    })
    .optional(),
};

/** What `onUnknown` is for cannot happen to a tool that may be executed again. */
export const ONLY_ONCE = {
  path: ["onUnknown"],
  error: 'expected none, because only a tool whose effect is "once" is not executed again',
};

export const toolSchema = strict({
  name: nameSchema.refine((name) => !name.startsWith(RESERVED), {
    error: `expected a name that does not begin with ${RESERVED}, which is for handoffs`,
  }),
  description: z.string().min(1),
  parameters: z.custom<z.ZodObject>(isZodObject, { error: "expected a zod object, as in z.object({…})" }),
  output: z.custom<z.ZodType | JsonSchema>(isZodSchema, { error: "expected a zod schema" }).optional(),
  ...executionShape,
  execute: functionSchema<Tool["execute"]>(),
}).refine(({ effect, onUnknown }) => onUnknown === undefined || effect === "once", ONLY_ONCE);

function isZodObject(value: unknown): boolean {
  return isZodSchema(value) && value._zod.def.type === "object";
}
