/** Every durable and wire name in one place: subjects, streams, consumers, headers. docs/protocol.md explains them. */
import { UsageError } from "../errors.ts";

/** Names that become one token of a subject: agents, workflows, run ids, task ids. */
const TOKEN = /^[A-Za-z0-9_-]{1,128}$/;

/** Whether `name` can be one token of a subject. */
export function isToken(name: string): boolean {
  return TOKEN.test(name);
}

export type Subjects = ReturnType<typeof subjectsFor>;

/**
 * The names under a prefix.
 *
 * @throws UsageError when the prefix is not one subject token.
 */
export function subjectsFor(prefix = "troupe") {
  if (!isToken(prefix)) {
    throw new UsageError(`prefix: expected letters, digits, "-" or "_", got ${JSON.stringify(prefix)}`);
  }
  const streams = prefix.toUpperCase().replaceAll("-", "_");
  const buckets = { payloads: `${prefix}_payloads`, uploads: `${prefix}_uploads` } as const;
  return {
    prefix,
    request: (workflow: string) => `${prefix}.requests.${workflow}`,
    allRequests: `${prefix}.requests.*`,
    mailbox: (agent: string) => `${prefix}.agents.${agent}`,
    /** Where the steps of a tool go. */
    toolMailbox: (tool: string) => `${prefix}.tools.${tool}`,
    run: (runId: string) => `${prefix}.runs.${runId}`,
    allRuns: `${prefix}.runs.*`,
    task: (runId: string, taskId: string) => `${prefix}.tasks.${runId}.${taskId}`,
    tasksOf: (runId: string) => `${prefix}.tasks.${runId}.*`,
    allTasks: `${prefix}.tasks.*.*`,
    signal: (runId: string) => `${prefix}.signals.${runId}`,
    allSignals: `${prefix}.signals.*`,
    /** Where a long run stands, so that its journal need not be read from the beginning; the newest of a subject counts. */
    snapshot: (runId: string) => `${prefix}.snapshots.${runId}`,
    allSnapshots: `${prefix}.snapshots.*`,
    /** A schedule and how far it has fired; the newest of a subject counts. */
    schedule: (name: string) => `${prefix}.schedules.${name}`,
    allSchedules: `${prefix}.schedules.*`,
    /** What agents and tools of a run logged. */
    log: (runId: string) => `${prefix}.logs.${runId}`,
    allLogs: `${prefix}.logs.*`,
    /** Every change of a workflow's stored definition. */
    definition: (workflow: string) => `${prefix}.definitions.${workflow}`,
    allDefinitions: `${prefix}.definitions.*`,
    dead: (kind: "requests" | "tasks", name: string) => `${prefix}.dead.${kind}.${name}`,
    allDead: `${prefix}.dead.>`,
    /** How far each host's durable spans are exported; the newest message of a subject counts. */
    exported: (host: string) => `${prefix}.exported.${host}`,
    allExported: `${prefix}.exported.*`,
    presence: `${prefix}.presence`,
    /** A new owner of a run asks here who is at work on its tasks. */
    owners: `${prefix}.owners`,
    event: (workflow: string, runId: string, type: string) => `${prefix}.events.${workflow}.${runId}.${type}`,
    eventsOf: (runId: string) => `${prefix}.events.*.${runId}.>`,
    /** The `run.*` events of one run, its end among them. */
    endsOf: (runId: string) => `${prefix}.events.*.${runId}.run.*`,
    allEvents: `${prefix}.events.>`,
    api: `${prefix}.api`,
    /** The micro service's name, as `nats micro ls` shows it. */
    service: prefix,
    streams: {
      requests: `${streams}_REQUESTS`,
      runs: `${streams}_RUNS`,
      tasks: `${streams}_TASKS`,
      signals: `${streams}_SIGNALS`,
      snapshots: `${streams}_SNAPSHOTS`,
      schedules: `${streams}_SCHEDULES`,
      logs: `${streams}_LOGS`,
      definitions: `${streams}_DEFINITIONS`,
      dead: `${streams}_DEAD`,
      exported: `${streams}_EXPORTED`,
      // What the object store calls the stream of a bucket.
      payloads: `OBJ_${buckets.payloads}`,
      uploads: `OBJ_${buckets.uploads}`,
    },
    /** Buckets of the object store: large values of runs, and those on their way from outside. */
    buckets,

    /** The durable consumer all daemons take requests from. */
    doorConsumer: "door",
    /** The queue group of every mailbox. */
    workers: "workers",
  } as const;
}

/** The subjects of the object store, as every NATS client has them. */
export const objectSubjects = {
  /** The chunks of an object; with `>` those of an area. */
  chunks: (bucket: string, id: string) => `$O.${bucket}.C.${id}`,
  /** The message about an object; clients pad the token. */
  info(bucket: string, name: string) {
    const token = Buffer.from(name).toString("base64url");
    return `$O.${bucket}.M.${token.padEnd(Math.ceil(token.length / 4) * 4, "=")}`;
  },
  all: (bucket: string) => [`$O.${bucket}.C.>`, `$O.${bucket}.M.>`],
} as const;

/** On a task that was sent before without an answer: whoever takes it looks into the task's journal first. */
export const SENT_AGAIN_HEADER = "Troupe-Sent-Again";
/**
 * On a task: when it was sent, in milliseconds since the epoch. One that was long on its way may come from an owner that was
 * stopped in between and is none any more.
 */
export const SENT_AT_HEADER = "Troupe-Sent-At";
/** The W3C trace context header, on every message that belongs to a run. */
export const TRACEPARENT_HEADER = "traceparent";
/** On a request that is sent again from the dead letters: the run it was for, where its body does not name one. */
export const RUN_ID_HEADER = "Troupe-Run-Id";
