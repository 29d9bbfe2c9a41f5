/** What a schedule is once it is checked: plain data, whichever of YAML, JSON, TypeScript or the API it came from. */

/** When a schedule is due. */
export type ScheduleTiming =
  /** A cron expression of five fields, or of six with seconds first, by the wall clock of `timezone`. */
  | { cron: string; timezone: string }
  /** Once, at an ISO 8601 instant. */
  | { at: string }
  /** At every multiple of so many milliseconds since 1970, so that every daemon counts the same. */
  | { everyMs: number };

/**
 * What becomes of the instants at which no daemon was there: one run for all of them, none, or one for each (of the last
 * thousand).
 */
export type MissedPolicy = "once" | "skip" | "all";

/** Whether a run starts while the one before is not over. */
type OverlapPolicy = "allow" | "skip";

/** What a schedule does when it is due. */
export type ScheduleBehaviour = {
  /** The input of its runs; absent means `{schedule, dueAt}`. */
  input?: unknown;
  missed: MissedPolicy;
  overlap: OverlapPolicy;
};

/** A schedule without the workflow that it starts. */
export type ScheduleTerms = ScheduleTiming &
  ScheduleBehaviour & {
    /** Whether it is made so that it does not fire; whoever pauses or resumes it later is heeded more. */
    paused?: true;
  };

/** A schedule. */
export type Schedule = ScheduleTerms & { name: string; workflow: string };

/** When a schedule is due, as it is written. */
type TimingOptions =
  | {
      /** A cron expression of five fields, or of six with seconds first. */
      cron: string;
      /** An IANA name such as `Europe/Berlin`. @default "UTC" */
      timezone?: string;
      at?: never;
      everyMs?: never;
    }
  | {
      /** Once, at an instant: ISO 8601 with an offset or `Z`. */
      at: string;
      cron?: never;
      timezone?: never;
      everyMs?: never;
    }
  | {
      /** At every multiple of so many milliseconds since 1970, at least 1000. */
      everyMs: number;
      cron?: never;
      timezone?: never;
      at?: never;
    };

/** A schedule without the workflow that it starts, as it is written. */
export type ScheduleTermsOptions = TimingOptions & {
  /** The input of its runs. @default { schedule, dueAt }: its name, and the instant it was due */
  input?: unknown;
  /** @default "once" */
  missed?: MissedPolicy;
  /** @default "allow" */
  overlap?: OverlapPolicy;
  /** Whether it is made so that it does not fire. @default false */
  paused?: boolean;
};

/** A schedule as it is written. */
export type ScheduleOptions = ScheduleTermsOptions & {
  /** The workflow that it starts. */
  workflow: string;
};

/** When a schedule is due, without the rest of it. */
export function timingOf(terms: ScheduleTiming): ScheduleTiming {
  if ("cron" in terms) return { cron: terms.cron, timezone: terms.timezone };
  if ("at" in terms) return { at: terms.at };
  return { everyMs: terms.everyMs };
}

/** The id of the run that a schedule starts for one of its instants: whoever starts it, and however often, it is one run. */
export function scheduledRunId(name: string, dueMs: number): string {
  const instant = new Date(dueMs).toISOString();
  return `${name}-${instant.replace(".000Z", "Z").replaceAll(/[-:.]/g, "")}`;
}
