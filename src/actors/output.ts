/** Structured output: reading the model's words against the shape its agent promises. */
import type { z } from "zod";
import type { JsonSchema } from "./model.ts";
import { type Checked, validateOutput } from "./schemas.ts";

/** Some models wrap their JSON in a Markdown fence however they are asked. */
const FENCED = /^```(?:json)?\s*\n([\s\S]*?)\n?```$/;

/** Reads an answer as JSON and checks its shape. */
export function readOutput(schema: z.ZodType | JsonSchema, content: string): Checked {
  const text = content.trim();
  let value: unknown;
  try {
    value = JSON.parse(FENCED.exec(text)?.[1] ?? text);
  } catch (error) {
    return { ok: false, problems: [`expected JSON, got text that is none (${(error as Error).message})`] };
  }
  try {
    return validateOutput(schema, value);
  } catch (error) {
    // A refinement of the user's own threw.
    return { ok: false, problems: [error instanceof Error ? error.message : String(error)] };
  }
}

/** What the model is told when its answer does not fit. */
export function repairRequest(problems: readonly string[]): string {
  const list = problems.map((problem) => `- ${problem}`).join("\n");
  return `Your answer does not have the required shape:\n${list}\nAnswer again with JSON of that shape and nothing else.`;
}
