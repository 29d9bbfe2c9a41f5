/**
 * The streams and consumers Troupe needs, made or brought up to date: get, compare, then change. Several daemons may do
 * this at once; what another one did in between is looked at again, not fought over.
 */
import { objectSubjects, type Subjects } from "../subjects.ts";
import type { Bus } from "./connection.ts";
import {
  AckPolicy,
  DeliverPolicy,
  DiscardPolicy,
  type JetStreamManager,
  NatsError,
  nanos,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from "./nats.ts";

export type ProvisionOptions = {
  /** Replicas of every stream. @default what a stream has; 1 for new ones */
  replicas?: number | undefined;
  /** How long a request may stay unacknowledged before another daemon gets it, in milliseconds. */
  ackWaitMs: number;
};

type WantedStream = Pick<StreamConfig, "name" | "subjects" | "retention"> & Partial<StreamConfig>;

const DAY_MS = 86_400_000;
// Unacknowledged requests are bounded by what daemons take (they take only what they have room for), not by this.
const MAX_ACK_PENDING = 65_536;

/** Batches of at most 16 KiB: together as much as a run's journal is in the worst of ordinary cases. */
const MAX_LOG_BATCHES = 1_000;

/** Makes sure that all streams and the door's consumer are there and have the settings this version relies on. */
export async function provision(bus: Bus, subjects: Subjects, options: ProvisionOptions): Promise<void> {
  const jsm = await bus.jsm();
  for (const stream of wantedStreams(subjects, options.replicas)) await provisionStream(jsm, stream);
  await provisionDoor(jsm, subjects, options.ackWaitMs);
}

function wantedStreams({ streams, buckets, ...names }: Subjects, replicas: number | undefined): WantedStream[] {
  // What nobody chose is left as an operator may have set it.
  const chosen = replicas === undefined ? {} : { num_replicas: replicas };
  // A log with a limit an operator has set refuses when it is full; the default would drop the oldest entries in silence.
  const log = { retention: RetentionPolicy.Limits, discard: DiscardPolicy.New, allow_direct: true, ...chosen };
  return [
    {
      name: streams.requests,
      subjects: [names.allRequests],
      retention: RetentionPolicy.Workqueue,
      ...chosen,
      // A full door refuses loudly; the default would drop the oldest request.
      discard: DiscardPolicy.New,
      description: "Requests that no daemon has taken yet",
    },
    { ...log, name: streams.runs, subjects: [names.allRuns], description: "The journal of every run" },
    {
      ...log,
      name: streams.tasks,
      subjects: [names.allTasks],
      description: "Turns of tasks at work, outcomes nobody took",
    },
    {
      ...log,
      name: streams.signals,
      subjects: [names.allSignals],
      max_age: nanos(30 * DAY_MS),
      description: "Cancel, approval and named events for runs",
    },
    {
      ...log,
      name: streams.snapshots,
      subjects: [names.allSnapshots],
      max_msgs_per_subject: 1,
      // The newest in place of the one before; what it says can always be made again from the journal.
      discard: DiscardPolicy.Old,
      description: "Where long runs stand, to take them over sooner",
    },
    {
      ...log,
      name: streams.schedules,
      subjects: [names.allSchedules],
      max_msgs_per_subject: 1,
      discard: DiscardPolicy.Old,
      description: "Schedules, and how far each has fired",
    },
    {
      ...log,
      name: streams.logs,
      subjects: [names.allLogs],
      // Nobody waits for a line to be stored; a run that logs without end loses its first lines.
      discard: DiscardPolicy.Old,
      max_msgs_per_subject: MAX_LOG_BATCHES,
      max_age: nanos(30 * DAY_MS),
      description: "What agents and tools of each run logged",
    },
    {
      ...log,
      name: streams.definitions,
      subjects: [names.allDefinitions],
      description: "Every version of the workflows that were put into this troupe",
    },
    {
      ...log,
      name: streams.dead,
      subjects: [names.allDead],
      description: "What could not be handled, with the reason",
    },
    {
      ...log,
      name: streams.exported,
      subjects: [names.allExported],
      max_msgs_per_subject: 1,
      discard: DiscardPolicy.Old,
      max_age: nanos(30 * DAY_MS),
      description: "How far each host's durable spans are exported",
    },
    {
      ...log,
      name: streams.payloads,
      subjects: objectSubjects.all(buckets.payloads),
      allow_rollup_hdrs: true,
      description: "Values of runs that are too large for a message",
    },
    {
      ...log,
      name: streams.uploads,
      subjects: objectSubjects.all(buckets.uploads),
      allow_rollup_hdrs: true,
      max_age: nanos(30 * DAY_MS),
      description: "Large values on their way from outside into a run",
    },
  ];
}

async function provisionStream(jsm: JetStreamManager, wanted: WantedStream): Promise<void> {
  const found = await orUndefined(jsm.streams.info(wanted.name));
  if (!found) {
    try {
      await jsm.streams.add({ storage: StorageType.File, ...wanted });
      return;
    } catch (error) {
      // Another daemon made it between the look and the try.
      if (!(await orUndefined(jsm.streams.info(wanted.name)))) throw error;
      return;
    }
  }
  if (!sameSettings(found.config, wanted)) await jsm.streams.update(wanted.name, wanted);
}

/** Makes the door's consumer or brings it up to date; whether it was not there. */
export async function provisionDoor(jsm: JetStreamManager, subjects: Subjects, ackWaitMs: number): Promise<boolean> {
  const wanted = {
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    ack_wait: nanos(ackWaitMs),
    max_ack_pending: MAX_ACK_PENDING,
    // Requests are redelivered until they are a run; what is poison is decided by the daemon, not by a count.
    max_deliver: -1,
  };
  const { requests } = subjects.streams;
  const found = await orUndefined(jsm.consumers.info(requests, subjects.doorConsumer));
  if (!found) {
    try {
      await jsm.consumers.add(requests, { ...wanted, durable_name: subjects.doorConsumer });
    } catch (error) {
      if (!(await orUndefined(jsm.consumers.info(requests, subjects.doorConsumer)))) throw error;
    }
  } else if (!sameSettings(found.config, wanted)) {
    await jsm.consumers.update(requests, subjects.doorConsumer, wanted);
  }
  return !found;
}

function sameSettings(found: object, wanted: object): boolean {
  const have = found as { [key: string]: unknown };
  return Object.entries(wanted).every(([key, value]) => JSON.stringify(have[key]) === JSON.stringify(value));
}

async function orUndefined<T>(looking: Promise<T>): Promise<T | undefined> {
  try {
    return await looking;
  } catch (error) {
    if (error instanceof NatsError && error.code === "404") return undefined;
    throw error;
  }
}
