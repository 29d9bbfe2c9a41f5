/** A daemon's part in schedules, put together: those it has in its configuration, those that are kept, and who fires them. */
import type { Logger } from "pino";
import { PayloadTooLargeError, UnavailableError } from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import type { Schedule } from "../../workflows/schedule.ts";
import { declareSchedule, nextFiring } from "../hosts/change-schedule.ts";
import { type Clock, systemClock } from "../hosts/clock.ts";
import type { Beat } from "../hosts/presence.ts";
import type { RunIndex } from "../hosts/run-index.ts";
import { openScheduleStore } from "../hosts/schedule-store.ts";
import { type Scheduler, startScheduler } from "../hosts/scheduler.ts";
import type { Bus } from "../nats/connection.ts";
import type { Journals } from "../nats/journal.ts";
import { NatsError } from "../nats/nats.ts";
import type { Subjects } from "../subjects.ts";
import { mayWaitAtDoor } from "./door-search.ts";
import { openScheduleApi, type ScheduleApi } from "./schedule-api.ts";

export type DaemonSchedulesOptions = {
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
  metrics: Metrics;
  incarnation: string;
  /** The definitions that new runs begin with here, stored ones among them, of which some have a schedule. */
  workflows(): readonly WorkflowDefinition[];
  /** Those of the configuration beside. */
  schedules(): readonly Schedule[];
  /** Whether requests can be stored now. */
  mayFire(): boolean;
  /** @default systemClock */
  clock?: Clock;
};

/** What firing rests on, once it is there. */
type ScheduleSurroundings = {
  living(): readonly Beat[];
  index: Pick<RunIndex, "known">;
  journals: Journals<RunEvent[]>;
};

export type DaemonSchedules = {
  /** What beats say. */
  inBeat(): Pick<Beat, "watch" | "schedules">;
  /** All that are kept have been read. */
  ready(): Promise<void>;
  /** Starts to fire, and declares its own. */
  begin(surroundings: ScheduleSurroundings): void;
  /** What this daemon has is another: declares it, once it has begun. */
  declare(): void;
  api(living: () => readonly Beat[]): ScheduleApi;
  stop(): Promise<void>;
};

const PUBLISH_TIMEOUT_MS = 5_000;
const DECLARE_AGAIN_MS = 2_000;

/** Opens the schedules; nothing fires before `begin`. */
export function openDaemonSchedules(options: DaemonSchedulesOptions): DaemonSchedules {
  const { bus, subjects, logger, clock = systemClock } = options;
  const store = openScheduleStore({ bus, subjects, logger, now: clock.now });
  let scheduler: Scheduler | undefined;
  let declareAgain: NodeJS.Timeout | undefined;
  let own = ownSchedules();
  /** The form in which each was declared last: it is not asked for again. */
  const declared = new Map<string, string>();
  /** Those that came while this daemon ran, and that nobody else had. They do not fire before that is settled. */
  const back = new Set<string>();
  /** Beats are made much more often than this changes. */
  let inBeats = [...own.keys()];
  let living: (() => readonly Beat[]) | undefined;
  let stopped = false;

  return {
    inBeat() {
      const watch = scheduler?.watchingSince();
      return { ...(watch !== undefined && { watch }), ...(inBeats.length > 0 && { schedules: inBeats }) };
    },
    ready: () => store.ready(),
    declare,
    begin({ index, journals, ...surroundings }) {
      own = ownSchedules();
      sayInBeats();
      living = surroundings.living;
      void declareAll();
      scheduler = startScheduler({
        store,
        clock,
        logger,
        metrics: options.metrics,
        incarnation: options.incarnation,
        living: surroundings.living,
        mayFire: options.mayFire,
        async request(schedule, runId, dueAt) {
          // Also one whose journal is past its retention.
          if (!index.known(runId)) await ask(schedule, runId, dueAt);
        },
        async isUnfinished(runId) {
          const newest = async () => (await journals.last(subjects.run(runId)))?.value.at(-1);
          let last = await newest();
          if (!last) {
            // Its journal is past its retention.
            if (index.known(runId)) return false;
            if (await mayWaitAtDoor(bus, subjects, runId)) return true;
            // It may have come through the door meanwhile.
            last = await newest();
          }
          return last !== undefined && !isTerminal(last.type);
        },
      });
    },
    api: (living) =>
      openScheduleApi({
        store,
        now: clock.now,
        isDeclared: (name) => living().some(({ schedules }) => schedules?.includes(name)),
      }),
    async stop() {
      stopped = true;
      clearTimeout(declareAgain);
      await scheduler?.stop();
      await store.stop();
    },
  };

  function ownSchedules(): Map<string, Schedule> {
    const ofWorkflows = options
      .workflows()
      .flatMap(({ name, schedule }) => (schedule ? [{ name, workflow: name, ...schedule }] : []));
    // A stored workflow may have the name of one of the configuration's schedules; what is stored goes before that.
    return new Map([...options.schedules(), ...ofWorkflows].map((schedule) => [schedule.name, schedule]));
  }

  function declare() {
    const before = own;
    own = ownSchedules();
    for (const name of before.keys()) {
      if (own.has(name)) continue;
      declared.delete(name);
      back.delete(name);
    }
    const others = living?.().filter(({ incarnation }) => incarnation !== options.incarnation);
    for (const name of own.keys()) {
      if (!others || before.has(name) || others.some(({ schedules }) => schedules?.includes(name))) continue;
      back.add(name);
    }
    sayInBeats();
    if (living && !stopped) void declareAll();
  }

  function sayInBeats() {
    inBeats = [...own.keys()].filter((name) => !back.has(name));
  }

  async function declareAll() {
    clearTimeout(declareAgain);
    for (const [name, schedule] of own) {
      if (declared.get(name) === JSON.stringify(schedule)) continue;
      try {
        await declareOne(name);
      } catch (error) {
        if (stopped) return;
        // One that is too large for a message; the others are not.
        if (error instanceof PayloadTooLargeError)
          logger.error({ schedule: name, err: error }, "the schedule is too large");
        else {
          logger.debug({ schedule: name, err: error }, "schedules cannot be declared yet");
          clearTimeout(declareAgain);
          declareAgain = setTimeout(() => void declareAll(), DECLARE_AGAIN_MS).unref();
          return;
        }
      }
    }
  }

  async function declareOne(name: string) {
    let schedule: Schedule | undefined;
    const kept = await store.change(name, (before) => {
      // It may have become another one since.
      schedule = own.get(name);
      return schedule ? declareSchedule(before, schedule, clock.now(), { isBack: back.has(name) }) : before;
    });
    if (!schedule || schedule !== own.get(name)) return;
    declared.set(name, JSON.stringify(schedule));
    if (back.delete(name)) sayInBeats();
    if (kept && !kept.last && nextFiring({ ...kept, paused: false }, Date.parse(kept.through)) === undefined) {
      logger.warn({ schedule: name }, "the schedule's instant was over when it was declared");
    }
  }

  async function ask({ name, workflow, input }: Schedule, runId: string, dueAt: string): Promise<void> {
    const origin = { schedule: name, dueAt };
    const body = Buffer.from(JSON.stringify({ input: input === undefined ? origin : input, runId, metadata: origin }));
    try {
      await bus.js.publish(subjects.request(workflow), body, { msgID: runId, timeout: PUBLISH_TIMEOUT_MS });
    } catch (error) {
      if (!(error instanceof NatsError)) throw error;
      throw new UnavailableError(`schedule ${name}: its request could not be stored: ${error.message}`, {
        cause: error,
      });
    }
  }
}
