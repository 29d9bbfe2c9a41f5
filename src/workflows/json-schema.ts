/** The schema of data as JSON has it. */
import { z } from "zod";

/** Data as JSON has it: what a template is made of and what a definition can be hashed over. */
export const jsonSchema = z.custom<unknown>(isJson, { error: "expected JSON data" });

function isJson(value: unknown): boolean {
  if (Array.isArray(value)) return value.every(isJson);
  if (typeof value === "object" && value !== null) {
    const prototype: unknown = Object.getPrototypeOf(value);
    return (prototype === Object.prototype || prototype === null) && Object.values(value).every(isJson);
  }
  return value === null || typeof value === "string" || typeof value === "boolean" || Number.isFinite(value);
}
