/** What the API does with schedules: list, put, delete. */
import { NotFoundError, UsageError } from "../../errors.ts";
import { sameTiming } from "../../workflows/due-instants.ts";
import type { RunStatus } from "../../workflows/run-status.ts";
import type { Schedule, ScheduleBehaviour, ScheduleTiming } from "../../workflows/schedule.ts";
import { nextFiring, pauseDeclared, putSchedule } from "../hosts/change-schedule.ts";
import type { KeptSchedule, ScheduleStore } from "../hosts/schedule-store.ts";
import { ConflictError } from "./api-errors.ts";
import type { RunApiParts } from "./run-api.ts";

/** A schedule as `schedules.list` shows it. */
export type ScheduleListing = ScheduleTiming &
  ScheduleBehaviour & {
    name: string;
    /** The workflow that it starts. */
    workflow: string;
    /** Whether it does not fire for now. */
    paused: boolean;
    /** Whether it came from the configuration of daemons, or with a workflow that was put; it fires while a daemon that has it lives. */
    declared: boolean;
    /** When it fires next; absent where it does not. */
    next?: string;
    /** The last instant that led to a run; `status` is the run's, where it is known. */
    last?: { dueAt: string; firedAt: string; runId: string; status?: RunStatus };
    /** The last instant that led to none, and why. */
    skipped?: { dueAt: string; reason: "missed" | "overlap" };
  };

export type ScheduleApi = {
  /** All schedules by name; `statusOf` knows about runs. */
  list(statusOf: (runId: string) => RunStatus | undefined): ScheduleListing[];
  put(schedule: Schedule, startable: RunApiParts["startable"]): Promise<ScheduleListing>;
  delete(request: { name: string }): Promise<{ name: string }>;
};

export type ScheduleApiParts = {
  store: ScheduleStore;
  now(): number;
  /** Whether a living daemon has the schedule in its configuration, or with a stored workflow. */
  isDeclared(name: string): boolean;
};

/** Makes the handlers of `schedules.*`. */
export function openScheduleApi({ store, now, isDeclared }: ScheduleApiParts): ScheduleApi {
  return {
    list(statusOf) {
      const kept = store.all().sort((a, b) => (a.schedule.name < b.schedule.name ? -1 : 1));
      return kept.map((each) => listingOf(each, statusOf));
    },

    async put(schedule, startable) {
      const { name, workflow } = schedule;
      if (!(await startable(workflow, undefined))) {
        throw new NotFoundError(`no living daemon has a workflow ${JSON.stringify(workflow)}`, "unknown_workflow");
      }
      const kept = await store.change(name, (before) => {
        const after = before?.declared && isDeclared(name) ? pauseDeclared(before, schedule, now()) : undefined;
        if (!after && isDeclared(name)) throw declaredElsewhere(name);
        const made = after ?? putSchedule(before, schedule, now());
        const isNew = !before || !sameTiming(before.schedule, schedule);
        if ("at" in schedule && isNew && nextFiring({ ...made, paused: false }, now()) === undefined) {
          throw new UsageError(`schedules.put: at: expected an instant to come, got ${schedule.at}`, "invalid_request");
        }
        return made;
      });
      // It was put a moment ago; that it is gone already is no reason not to say what it was.
      return listingOf(kept ?? putSchedule(undefined, schedule, now()), () => undefined);
    },

    async delete({ name }) {
      await store.change(name, (kept) => {
        if (!kept) throw new NotFoundError(`no schedule ${JSON.stringify(name)}`, "unknown_schedule");
        if (isDeclared(name)) throw declaredElsewhere(name);
        return undefined;
      });
      return { name };
    },
  };

  function listingOf(kept: KeptSchedule, statusOf: (runId: string) => RunStatus | undefined): ScheduleListing {
    const { schedule, paused, declared, last, skipped } = kept;
    const fires = !declared || isDeclared(schedule.name);
    const next = fires ? nextFiring(kept, now()) : undefined;
    const status = last && statusOf(last.runId);
    return {
      ...schedule,
      paused,
      declared,
      ...(next !== undefined && { next: new Date(next).toISOString() }),
      ...(last && { last: { ...last, ...(status && { status }) } }),
      ...(skipped && { skipped }),
    };
  }
}

function declaredElsewhere(name: string): ConflictError {
  const where = "in the configuration of a daemon, or with a workflow that was put";
  const message = `schedule ${name} is declared ${where}: change it there; here it can be paused and resumed`;
  return new ConflictError("schedule_declared", message);
}
