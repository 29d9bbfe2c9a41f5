/** Makes tools: a name, what the model is told, a zod schema for the arguments, and the function. */
import type { z } from "zod";
import { DefinitionError } from "../errors.ts";
import { joinPath, problemAt, problemsOf, showValue } from "./schema-problems.ts";
import { toJsonSchema } from "./schemas.ts";
import type { FoundOut, Tool, ToolContext, ToolEffect, ToolRetry } from "./tool.ts";
import { toolSchema } from "./tool-schema.ts";

export type ToolOptions<Parameters extends z.ZodObject, Output extends z.ZodType = z.ZodType> = {
  name: string;
  /** Tells the model what it does and when to use it. */
  description: string;
  /** A zod object; the arguments of `execute` are inferred from it. */
  parameters: Parameters;
  /** What `execute` returns; the model reads of a result that does not fit that it does not. @default anything */
  output?: Output;
  /** How long one execution may take, in milliseconds. @default the agent's `toolTimeoutMs` */
  timeoutMs?: number;
  /** The most a result may take as text, in bytes; of a larger one the model reads its size. @default the daemon's `maxPayloadBytes` */
  maxResultBytes?: number;
  /**
   * Executes it again after errors that say `retryable: true` (as a {@link ToolError} may) and after a timeout; a tool that only
   * reads, after every error that does not say `retryable: false`. The defaults are one attempt, `exponential` and 500 ms.
   */
  retry?: Partial<ToolRetry>;
  /** What executing it a second time would do, as after the death of a worker in the middle. @default "idempotent" */
  effect?: ToolEffect;
  /**
   * What becomes of a call of a tool whose effect is `once` when nobody knows whether it was done: the worker died, or the time was
   * up. `fail` tells the model, `stop` fails the task with the code `outcome_unknown`, and a function finds out.
   * @default "fail"
   */
  onUnknown?:
    | "fail"
    | "stop"
    | ((
        args: z.output<Parameters>,
        context: ToolContext,
      ) => FoundOut<z.input<Output>> | Promise<FoundOut<z.input<Output>>>);
  /** What it returns goes to the model, as JSON unless it is text. It may run more than once, but for the effect `once`. */
  execute: (args: z.output<Parameters>, context: ToolContext) => z.input<Output> | Promise<z.input<Output>>;
};

/**
 * Defines a tool.
 *
 * @throws DefinitionError with everything that is wrong with it.
 */
export function defineTool<Parameters extends z.ZodObject, Output extends z.ZodType = z.ZodType>(
  options: ToolOptions<Parameters, Output>,
): Tool {
  const name = (options as Partial<typeof options> | undefined)?.name;
  const place = { path: typeof name === "string" && name !== "" ? joinPath("tools", [name]) : "tool" };
  const parsed = toolSchema.safeParse(options);
  if (!parsed.success) throw new DefinitionError(problemsOf(parsed.error.issues, options, place));
  assertExpressible(parsed.data.parameters, `${place.path}.parameters`);
  const present = Object.entries(parsed.data).filter(([, value]) => value !== undefined);
  return Object.freeze(Object.fromEntries(present)) as Tool;
}

/** Whether a value can be used as a tool; it may come from another copy of Troupe. */
export function isTool(value: unknown): value is Tool {
  return toolSchema.safeParse(value).success;
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
