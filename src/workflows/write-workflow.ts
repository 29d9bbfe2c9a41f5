/** A workflow as a file has it: what it was written as, with zod schemas as JSON Schema and without what is no data. */
import { type Place, placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import { isZodSchema } from "../actors/schemas.ts";
import { A_FUNCTION, writeSchema } from "../actors/write-agent.ts";
import type { Problem } from "../errors.ts";
import type { WorkflowDefinition } from "./definition.ts";
import { type WrittenWorkflow, writtenOf } from "./written-workflow.ts";

/** Writes a workflow; what no file can hold goes into `problems`, and is left out. */
export function writeWorkflow(definition: WorkflowDefinition, place: Place, problems: Problem[]): WrittenWorkflow {
  const written = writtenOf(definition);
  if (!written) {
    problems.push(problemAt(place, "a workflow as defineWorkflow made it", "a copy of one"));
    return {};
  }
  return plain(written, place, problems) as WrittenWorkflow;
}

function plain(value: unknown, place: Place, problems: Problem[]): unknown {
  // A request or an output may say more than a workflow reads, so what is checked of it stays open.
  if (isZodSchema(value)) return writeSchema(value, { place, problems, closed: false });
  if (Array.isArray(value)) return value.map((item, index) => plain(item, placeAt(place, index), problems));
  if (typeof value === "function") {
    problems.push(problemAt(place, "data", A_FUNCTION));
    return undefined;
  }
  if (typeof value !== "object" || value === null) return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    problems.push(problemAt(place, "data", showValue(value)));
    return undefined;
  }
  const entries = Object.entries(value).map(
    ([key, item]) => [key, plain(item, placeAt(place, key), problems)] as const,
  );
  return Object.fromEntries(entries.filter(([, item]) => item !== undefined));
}
