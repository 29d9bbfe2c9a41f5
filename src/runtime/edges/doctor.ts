/**
 * `troupe doctor`: looks at everything from outside, with or without a daemon, and says what is wrong.
 *
 * Each look may fail by itself (a permission, a broker without JetStream): what is missing is said, the rest is still told.
 */
import { join } from "node:path";
import { PermissionError, toErrorRecord } from "../../errors.ts";
import type { Bus } from "../nats/connection.ts";
import { NatsError } from "../nats/nats.ts";
import { subjectsFor } from "../subjects.ts";
import { connect } from "./client.ts";
import type { Ailment, Diagnosis } from "./diagnosis.ts";
import { ailmentsOf } from "./doctor-ailments.ts";
import { examineBroker, examineClock, examineJetStream } from "./doctor-broker.ts";
import { examineRuns, listenForDaemons } from "./doctor-daemons.ts";
import { examineBacklog, examineDoor, examineStreams } from "./doctor-streams.ts";

export type DoctorOptions = {
  bus: Bus;
  /** @default "troupe" */
  prefix?: string;
  /** The data folder, where an embedded server would have its store. */
  data: string;
  /** How long to listen for beats, in milliseconds: two of them. */
  listenMs: number;
  /** How long a request may wait before that is a problem, in milliseconds. */
  staleAfterMs: number;
  /** How long a daemon may take to answer, in milliseconds. */
  patienceMs: number;
};

type Unseen = { what: string; error: unknown };

const ADVICE = {
  not_permitted: "use a user with the permissions of `operator` in docs/protocol.md",
  no_jetstream: "enable JetStream on the broker, for this account",
  unseen: "try again; if it stays, look into the broker's log",
} as const;

/** Looks at everything; takes about `listenMs`. The connection stays open. */
export async function examine(options: DoctorOptions): Promise<Diagnosis> {
  const { bus, listenMs, staleAfterMs, patienceMs } = options;
  const subjects = subjectsFor(options.prefix);
  const { prefix } = subjects;
  const client = await connect({ connection: bus.nc, prefix, timeoutMs: patienceMs });
  const unseen: Unseen[] = [];
  // First, as long as nothing else is asked: it measures how long an answer takes.
  const broker = await look("the broker", examineBroker(bus, join(options.data, "nats")));
  const [jetstream, streams, clock, door, daemons, runs] = await Promise.all([
    look("JetStream", examineJetStream(bus)),
    look("the streams", examineStreams(bus, subjects)),
    look("the broker's clock", examineClock(bus, subjects.streams.dead)),
    look("the door", examineDoor(bus, subjects)),
    look("the daemons", listenForDaemons(bus, subjects, listenMs)),
    look("the runs", examineRuns(client)),
  ]);
  const backlog = await look("the requests that wait", examineBacklog(bus, subjects, clock?.offsetMs ?? 0));
  const dead = streams?.find(({ name }) => name === subjects.streams.dead);
  const seen = {
    at: new Date().toISOString(),
    prefix,
    ...(broker && {
      broker: {
        ...broker,
        ...(clock && { clockOffsetMs: clock.offsetMs, clockUncertaintyMs: clock.uncertaintyMs }),
      },
    }),
    ...(jetstream && { jetstream }),
    ...(streams && { streams }),
    ...(door && { door }),
    ...(backlog && { backlog }),
    ...(daemons && { daemons }),
    ...(runs && { runs }),
    ...(dead && { deadLetters: dead.messages }),
  };
  const problems = [...unseenAilments(unseen), ...ailmentsOf(seen, { subjects, staleAfterMs, listenMs })];
  return { healthy: problems.length === 0, ...seen, problems };

  /** What cannot be seen is a problem of its own, unless it is not there: that is told where the streams are. */
  async function look<T>(what: string, looking: Promise<T>): Promise<T | undefined> {
    try {
      return await looking;
    } catch (error) {
      if (!(error instanceof NatsError && error.code === "404")) unseen.push({ what, error });
      return undefined;
    }
  }
}

/** A broker that cannot be reached, as a diagnosis. */
export function unreachable(message: string): Diagnosis {
  const advice =
    "start the broker or `troupe serve`, or say with --nats where it is; check credentials and the network";
  const problems = [{ code: "unreachable", message, advice }];
  return { healthy: false, at: new Date().toISOString(), problems };
}

/** One problem for each cause, however much cannot be seen because of it. */
function unseenAilments(unseen: readonly Unseen[]): Ailment[] {
  const causes = Map.groupBy(unseen, ({ error }) => causeOf(error));
  return [...causes].map(([cause, all]) => {
    const why = [...new Set(all.map(({ error }) => toErrorRecord(error).message))].join("; ");
    const message = `could not look at ${all.map(({ what }) => what).join(", ")}: ${why}`;
    return { code: cause, message, advice: ADVICE[cause] };
  });
}

function causeOf(error: unknown): keyof typeof ADVICE {
  if (error instanceof PermissionError) return "not_permitted";
  if (!(error instanceof NatsError)) return "unseen";
  if (error.code === "PERMISSIONS_VIOLATION") return "not_permitted";
  return error.code === "503" ? "no_jetstream" : "unseen";
}
