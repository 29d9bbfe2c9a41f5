/**
 * How far each host's durable spans are exported, known to all: every daemon says so in a small stream, so that spans a
 * killed daemon had recorded but not exported can be made again from the journals.
 *
 * Invariants
 * E1  A mark never runs ahead: it is said only after the exporter's success.
 * E2  Marks of old incarnations are read before this host's own first mark replaces them.
 * E3  A mark speaks for one incarnation: of entries that another life of the same host recorded it says nothing.
 * E4  Who takes a run over answers for the spans of all entries before: its mark stays below its claim until they are
 *     exported. So the last claim alone tells where to go on, however many owners died in a row.
 */
import type { Logger } from "pino";
import type { RunEvent } from "../../workflows/run-events.ts";
import type { Bus } from "../nats/connection.ts";
import { followStream } from "../nats/follow.ts";
import type { Subjects } from "../subjects.ts";
import { crashPoints } from "./crash-points.ts";

/** What stands at `<prefix>.exported.<host>`. */
export type Mark = { v: 1; incarnation: string; through: number };

export type Exports = {
  /** What a host said last; undefined when it never said anything. */
  mark(host: string): Mark | undefined;
  hosts(): string[];
  /** All marks the broker keeps have been read. */
  ready(): Promise<void>;
  /** Starts saying this host's own mark. */
  begin(): void;
  /** Says on behalf of a gone host that its spans are taken care of. */
  settle(host: string, through: number): void;
  stop(): Promise<void>;
};

const SAY_EVERY_MS = 1_000;

/** Follows the marks of all hosts. */
export function followExports(options: {
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
  writer: { host: string; incarnation: string };
  /** How far this process is. */
  own: () => number;
}): Exports {
  const { bus, subjects, logger, writer, own } = options;
  const marks = new Map<string, Mark>();
  const waiting: (() => void)[] = [];
  let isReady = false;
  let timer: NodeJS.Timeout | undefined;
  let said = 0;
  let before = 0;
  const follower = followStream({
    bus,
    stream: subjects.streams.exported,
    logger,
    from: () => 1,
    entries(batch) {
      for (const { subject, data } of batch) hear(subject.slice(subject.lastIndexOf(".") + 1), data);
    },
    caughtUp() {
      isReady = true;
      for (const resolve of waiting.splice(0)) resolve();
    },
  });

  return {
    mark: (host) => marks.get(host),
    hosts: () => [...marks.keys()],
    ready: () => (isReady ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve))),
    begin() {
      timer = setInterval(sayOwn, SAY_EVERY_MS);
      timer.unref();
    },
    settle: (host, through) => say(host, through),
    async stop() {
      clearInterval(timer);
      if (timer) {
        sayOwn();
        sayOwn();
      }
      await follower.stop();
    },
  };

  function hear(host: string, data: Uint8Array) {
    try {
      const mark = JSON.parse(Buffer.from(data).toString("utf8")) as Mark;
      if (Number.isSafeInteger(mark.through)) marks.set(host, mark);
    } catch {
      logger.debug({ host }, "not an export mark");
    }
  }

  function sayOwn() {
    // E1: one period late, so that an append whose answer came late cannot lie below a mark that is out already.
    const through = before;
    before = own();
    if (through <= said || !bus.connected()) return;
    said = through;
    crashPoints.at("before-export-mark");
    say(writer.host, through);
    crashPoints.onceSent("after-export-mark");
  }

  function say(host: string, through: number) {
    const mark: Mark = { v: 1, incarnation: writer.incarnation, through };
    // A lost mark costs spans made twice, and the same span twice is one span.
    bus.nc.publish(subjects.exported(host), JSON.stringify(mark));
  }
}

/** The entry that made somebody a run's owner. */
export type Claim = { host: string; incarnation: string; seq: number };

/** The last claim among a journal's entries. */
export function lastClaimIn(entries: readonly { seq: number; value: readonly RunEvent[] }[]): Claim | undefined {
  for (const { seq, value } of entries.toReversed()) {
    const claim = value.findLast((event) => event.type === "run.claimed");
    if (claim?.type === "run.claimed") return { host: claim.data.host, incarnation: claim.data.incarnation, seq };
  }
  return undefined;
}

/**
 * The sequence after which a run's entries may have spans that nobody exported, now that its last owner is gone; `markOf`
 * is what a host said last.
 */
export function exportedUpTo(claim: Claim | undefined, markOf: (host: string) => Mark | undefined): number {
  if (!claim) return 0;
  const mark = markOf(claim.host);
  // E3, E4
  return mark?.incarnation === claim.incarnation && mark.through >= claim.seq ? mark.through : 0;
}
