/**
 * Named places on the path of a run where this process can be made to die. They are for tests: without the variable
 * TROUPE_CRASH_AT, which nothing but a test sets, every place is an empty function.
 *
 * Invariants
 * C1  It is SIGKILL: nothing is flushed, no handler runs, and nothing after the place happens.
 * C2  What a place comes after has happened: an entry is stored, a message has reached the broker. The client sends from a
 *     queue, so a death after a message, before an entry or around effects waits for the broker to have all that was sent.
 *     Elsewhere it comes at once, and takes with it what is still in the queue.
 */
import { UsageError } from "../../errors.ts";
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";

/** Every place; a run's entry that fits several kinds passes all of them. */
export const CRASH_POINTS = [
  // The owner
  "before-accepted-entry",
  "after-accepted-entry",
  "before-lone-entry",
  "after-lone-entry",
  "before-request-ack",
  "after-request-ack",
  "before-claim-entry",
  "after-claim-entry",
  "before-resent-entry",
  "after-resent-entry",
  "before-settled-entry",
  "after-settled-entry",
  "before-handoff-entry",
  "after-handoff-entry",
  "before-cancelling-entry",
  "after-cancelling-entry",
  "before-signal-entry",
  "after-signal-entry",
  "before-end-entry",
  "after-end-entry",
  "spans-waiting",
  "after-result",
  "before-effects",
  "between-effects",
  "before-task-sent",
  "after-task-sent",
  "before-child-asked",
  "after-child-asked",
  "before-recorded",
  "after-recorded",
  "before-export-mark",
  "after-export-mark",
  "before-snapshot",
  "after-snapshot",
  // The worker
  "before-task-accepted",
  "after-task-accepted",
  "before-begun-entry",
  "after-begun-entry",
  "after-model-reply",
  "before-reply-entry",
  "after-reply-entry",
  "before-calling-entry",
  "after-calling-entry",
  "before-tool-entry",
  "after-tool-entry",
  "before-next-task",
  "after-next-task",
  "before-outcome",
  "after-outcome",
  "before-outcome-entry",
  "after-outcome-entry",
] as const;

type CrashPoint = (typeof CRASH_POINTS)[number];

/** As much of a connection as it takes to know that the broker has what was sent. */
type Sender = { flush(): Promise<void> };

export type CrashPoints = {
  /** Whether there is anything to wait for. */
  readonly armed: boolean;
  /** Says what messages are sent through. */
  sendThrough(sender: Sender): void;
  /** This place is passed. */
  at(point: CrashPoint): void;
  /** This place is passed once the broker has what was sent before. */
  onceSent(point: CrashPoint): void;
  /** This place is passed once the broker has what was sent before; until it is known whether one lives, nothing goes on. */
  before(point: CrashPoint): Promise<void>;
  /** The same for the places of an entry of a run's journal that is about to be stored. */
  beforeEntry(events: readonly RunEvent[]): Promise<void>;
  /** Such an entry was just stored. */
  afterEntry(events: readonly RunEvent[]): void;
};

const OFF: CrashPoints = {
  armed: false,
  sendThrough() {},
  at() {},
  onceSent() {},
  async before() {},
  async beforeEntry() {},
  afterEntry() {},
};

const AT = /^([a-z-]+)(?::([1-9]\d*))?$/;

/**
 * Opens the places; `where` is `name` or `name:nth`, as in `after-tool-entry:2`, and `die` is called at that passing.
 *
 * @throws UsageError when there is no such place.
 */
export function openCrashPoints(where: string | undefined, die: () => void): CrashPoints {
  if (where === undefined || where === "") return OFF;
  const [, name, nth = "1"] = AT.exec(where) ?? [];
  const known: readonly string[] = CRASH_POINTS;
  if (name === undefined || !known.includes(name)) {
    throw new UsageError(
      `TROUPE_CRASH_AT: expected one of ${known.join(", ")}, perhaps with ":<nth>", got ${JSON.stringify(where)}`,
    );
  }
  let left = Number(nth);
  let sender: Sender | undefined;
  const isLast = (point: string) => point === name && --left === 0;
  // C2
  const dieOnceSent = () => (sender ? sender.flush().then(die, die) : Promise.resolve(die()));
  return {
    armed: true,
    sendThrough(connection) {
      sender = connection;
    },
    at(point) {
      if (isLast(point)) die();
    },
    onceSent(point) {
      if (isLast(point)) void dieOnceSent();
    },
    async before(point) {
      if (isLast(point)) await dieOnceSent();
    },
    async beforeEntry(events) {
      for (const kind of kindsOf(events)) if (isLast(`before-${kind}-entry`)) await dieOnceSent();
    },
    afterEntry(events) {
      for (const kind of kindsOf(events)) if (isLast(`after-${kind}-entry`)) die();
    },
  };
}

function kindsOf(events: readonly RunEvent[]): string[] {
  const kinds = new Set<string>();
  if (events[0]?.type === "run.claimed") kinds.add("claim");
  for (const event of events) {
    if (event.type === "run.accepted") kinds.add("accepted");
    else if (event.type === "task.settled") kinds.add("settled");
    else if (event.type === "agent.handoff") kinds.add("handoff");
    else if (event.type === "task.sent" && event.data.delivery > 1) kinds.add("resent");
    else if (event.type === "run.cancelling") kinds.add("cancelling");
    else if (event.type === "signal.received" && event.data.kind === "signal") kinds.add("signal");
    else if (isTerminal(event.type)) kinds.add("end");
  }
  return [...kinds];
}

// C1
export const crashPoints: CrashPoints = openCrashPoints(process.env.TROUPE_CRASH_AT, () =>
  process.kill(process.pid, "SIGKILL"),
);
