/** What a schedule may be written as, with every default: the schema behind TypeScript, configuration files and the API. */
import { z } from "zod";
import { durationSchema } from "../actors/durations.ts";
import { nameSchema } from "../actors/names.ts";
import { strict } from "../actors/strict.ts";
import { dueInstants } from "./due-instants.ts";
import { jsonSchema } from "./json-schema.ts";
import type { Schedule, ScheduleTerms } from "./schedule.ts";

/** More often than this nobody wants an agent to begin anew. */
const SHORTEST_EVERY_MS = 1_000;
const INSTANT = "expected an ISO 8601 instant such as 2030-01-31T09:00:00Z";
const EVERY = `expected a whole number of milliseconds, at least ${SHORTEST_EVERY_MS}`;

const terms = {
  cron: z.string().min(1).optional(),
  timezone: z.string().min(1).optional(),
  // One that comes to be in another millennium by its offset could not be written as it was read.
  at: z.iso.datetime({ offset: true, error: INSTANT }).refine(isFourDigitYear, { error: INSTANT }).optional(),
  everyMs: durationSchema.refine((ms) => ms >= SHORTEST_EVERY_MS, { error: EVERY }).optional(),
  input: jsonSchema.optional(),
  missed: z.enum(["once", "skip", "all"]).default("once"),
  overlap: z.enum(["allow", "skip"]).default("allow"),
  paused: z.boolean().default(false),
};

type TermsDraft = z.output<z.ZodObject<typeof terms>>;
type Context = z.core.$RefinementCtx<unknown>;

/** A schedule where it belongs to a workflow. */
export const scheduleTermsSchema = strict(terms).superRefine(checkTiming).transform(toTerms);

/** A schedule by itself; `name` may be left out where it stands beside. */
export const scheduleSchema = strict({ name: nameSchema, workflow: nameSchema, ...terms })
  .superRefine(checkTiming)
  .transform(({ name, workflow, ...rest }): Schedule => ({ name, workflow, ...toTerms(rest) }));

function checkTiming({ cron, timezone, at, everyMs }: TermsDraft, context: Context): void {
  const given = [cron, at, everyMs].filter((way) => way !== undefined).length;
  if (given !== 1) {
    context.addIssue({
      code: "custom",
      message: `expected one of cron, at and everyMs, got ${given || "none"} of them`,
    });
  }
  if (timezone !== undefined && cron === undefined) {
    context.addIssue({ code: "custom", path: ["timezone"], message: "expected only beside cron" });
  }
  if (cron !== undefined) checkCron(cron, timezone ?? "UTC", context);
}

function checkCron(cron: string, timezone: string, context: Context): void {
  if (!isTimeZone(timezone)) {
    context.addIssue({
      code: "custom",
      path: ["timezone"],
      message: "expected an IANA time zone such as Europe/Berlin",
    });
    return;
  }
  const fields = "expected a cron expression of five fields, or of six with seconds first";
  // An instant is a pattern as well to those who read it.
  if (!/^\S+(\s+\S+){4,5}$|^@\w+$/.test(cron.trim())) {
    context.addIssue({ code: "custom", path: ["cron"], message: fields });
    return;
  }
  try {
    if (dueInstants({ cron, timezone }).next(0) !== undefined) return;
    context.addIssue({ code: "custom", path: ["cron"], message: "expected an expression that is due at some time" });
  } catch (error) {
    const why = error instanceof Error ? error.message.replace(/^CronPattern: /, "") : String(error);
    context.addIssue({ code: "custom", path: ["cron"], message: `${fields}: ${why}` });
  }
}

function isFourDigitYear(at: string): boolean {
  const ms = Date.parse(at);
  return !Number.isNaN(ms) && /^\d{4}-/.test(new Date(ms).toISOString());
}

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: name }) !== undefined;
  } catch {
    return false;
  }
}

/** What says no more than the default is left out, so that the same schedule is the same data. */
function toTerms({ cron, timezone = "UTC", at, everyMs, input, missed, overlap, paused }: TermsDraft): ScheduleTerms {
  const timing =
    cron !== undefined
      ? { cron, timezone }
      : everyMs !== undefined
        ? { everyMs }
        : { at: new Date(at ?? 0).toISOString() };
  return {
    ...timing,
    ...(input !== undefined && { input }),
    missed,
    overlap,
    ...(paused && { paused: true as const }),
  };
}
