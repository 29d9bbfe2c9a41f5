/** The section `schedules`. */
import { readBySchema } from "../../actors/read-by-schema.ts";
import { oneOf, type Place, placeAt, problemAt, showValue } from "../../actors/schema-problems.ts";
import type { Problem } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { Schedule } from "../../workflows/schedule.ts";
import { scheduleSchema } from "../../workflows/schedule-schema.ts";
import { namedEntries } from "./named-entries.ts";

type SchedulesContext = {
  file: string;
  workflows: ReadonlyMap<string, WorkflowDefinition>;
  problems: Problem[];
};

/** The schedules, each of a workflow that stands beside. */
export function readSchedules(
  section: { readonly [name: string]: unknown } | readonly unknown[],
  { file, workflows, problems }: SchedulesContext,
): Schedule[] {
  const schedules: Schedule[] = [];
  for (const { name, raw, path } of namedEntries(section, "schedules", { file, problems })) {
    const place = { file, path };
    if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
      problems.push(problemAt(place, "an object", showValue(raw)));
      continue;
    }
    const read = readBySchema(scheduleSchema, { name, ...raw }, place, (schedule) => {
      const found = problemsWith(schedule, workflows, place);
      return found.length > 0 ? { problems: found } : { value: schedule, problems: [] };
    });
    problems.push(...read.problems);
    if (read.value) schedules.push(read.value);
  }
  return schedules;
}

function problemsWith(
  { name, workflow }: Schedule,
  workflows: ReadonlyMap<string, WorkflowDefinition>,
  place: Place,
): Problem[] {
  const found: Problem[] = [];
  if (!workflows.has(workflow)) {
    const known = [...workflows.keys()];
    const expected = known.length === 0 ? "a workflow's name, of which there are none" : oneOf(known);
    found.push(problemAt(placeAt(place, "workflow"), expected, showValue(workflow)));
  }
  if (workflows.get(name)?.schedule) {
    found.push(problemAt(place, "another name than that of a workflow with a schedule of its own", showValue(name)));
  }
  return found;
}
