/** The doctor's look at what is stored: the streams, the door's consumer, and who waits at the door for how long. */
import type { Bus } from "../nats/connection.ts";
import { NatsError, type StreamInfo } from "../nats/nats.ts";
import type { Subjects } from "../subjects.ts";
import type { BacklogReport, DoorReport, StreamReport } from "./diagnosis.ts";
import { limitConcurrency } from "./limit-concurrency.ts";

// Each is one question to the broker.
const MAX_QUESTIONS = 8;

/** Looks at every stream of a prefix; those that are not there are left out. */
export async function examineStreams(bus: Bus, { streams }: Subjects): Promise<StreamReport[]> {
  const jsm = await bus.jsm();
  const found = await Promise.all(Object.values(streams).map((name) => orUndefined(jsm.streams.info(name))));
  return found.flatMap((info) => (info ? [reportOf(info)] : []));
}

/** Looks at the consumer all daemons take requests from; undefined where it is not there. */
export async function examineDoor(bus: Bus, { streams, doorConsumer }: Subjects): Promise<DoorReport | undefined> {
  const jsm = await bus.jsm();
  const info = await orUndefined(jsm.consumers.info(streams.requests, doorConsumer));
  if (!info) return undefined;
  const { num_pending: waiting, num_ack_pending: inHand, num_redelivered: redelivered, num_waiting: pulls } = info;
  return { waiting, inHand, redelivered, pulls };
}

/** Counts the requests of each workflow and says how old the oldest is by the broker's clock, the longest wait first. */
export async function examineBacklog(bus: Bus, subjects: Subjects, clockOffsetMs: number): Promise<BacklogReport[]> {
  const jsm = await bus.jsm();
  const stream = subjects.streams.requests;
  const info = await orUndefined(jsm.streams.info(stream, { subjects_filter: subjects.allRequests }));
  const asking = limitConcurrency(MAX_QUESTIONS);
  const reports = Object.entries(info?.state.subjects ?? {}).map(([subject, requests]) =>
    asking(async (): Promise<{ seq: number; report: BacklogReport }> => {
      const workflow = subject.slice(subjects.request("").length);
      const oldest = { seq: info?.state.first_seq ?? 1, next_by_subj: subject };
      const message = await orUndefined(jsm.streams.getMessage(stream, oldest));
      // It became a run in between.
      if (!message) return { seq: Number.POSITIVE_INFINITY, report: { workflow, requests } };
      const oldestAgeMs = Math.max(0, Math.round(Date.now() + clockOffsetMs - message.time.getTime()));
      const report = { workflow, requests, oldestAt: message.time.toISOString(), oldestAgeMs };
      return { seq: message.seq, report };
    }),
  );
  const found = (await Promise.all(reports)).sort((a, b) => a.seq - b.seq);
  return found.map(({ report }) => report);
}

function reportOf({ config, state, cluster }: StreamInfo): StreamReport {
  const impaired = (cluster?.replicas ?? [])
    .filter(({ current, offline }) => offline || !current)
    .map(({ name, offline, lag }) => ({ server: name, offline: offline === true, behind: lag ?? 0 }));
  return {
    name: config.name,
    messages: state.messages,
    bytes: state.bytes,
    ...(config.max_bytes > 0 && { maxBytes: config.max_bytes }),
    replicas: config.num_replicas,
    ...(cluster?.leader && { leader: cluster.leader }),
    ...(impaired.length > 0 && { impaired }),
    ...(state.messages > 0 && { firstAt: instantOf(state.first_ts), lastAt: instantOf(state.last_ts) }),
  };
}

/** The broker tells nanoseconds. */
function instantOf(told: string): string {
  return new Date(told).toISOString();
}

async function orUndefined<T>(looking: Promise<T>): Promise<T | undefined> {
  try {
    return await looking;
  } catch (error) {
    if (error instanceof NatsError && error.code === "404") return undefined;
    throw error;
  }
}
