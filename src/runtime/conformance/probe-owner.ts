/**
 * Plays the owner of runs towards one mailbox: sends tasks, hears what is said about them, answers outcomes.
 *
 * Invariants
 * O1  Every task has a run of its own that no journal has, so whatever a worker does with it concerns no real run.
 * O2  Nothing is stored, and nothing is sent to the mailbox without a reply subject: what a worker cannot read would become a
 *     dead letter.
 * O3  A task that a worker has no room for is sent again, as a real owner does; what it says otherwise is only noted.
 * O4  Each place that answers go to has a subject of its own, which ends in the task's id.
 */
import type { OutcomeMessage, OutcomeReceipt, Task, TaskControl } from "../../actors/task.ts";
import type { Bus } from "../nats/connection.ts";
import { headers, type Msg, nuid } from "../nats/nats.ts";
import { SENT_AGAIN_HEADER, SENT_AT_HEADER, type Subjects, TRACEPARENT_HEADER } from "../subjects.ts";
import { CheckFailure } from "./check-failure.ts";

/** Something said on a reply subject. */
export type Heard = {
  /** The `type` it has; where it is no JSON object with one, what it is, in words. */
  type: string;
  body: { readonly [field: string]: unknown };
  text: string;
  /** The subject it takes an answer on. */
  reply: string | undefined;
  /** When, in milliseconds of `performance.now()`. */
  at: number;
};

/** How outcomes are answered. */
export type Receipt = OutcomeReceipt["type"] | "silence";

/** A place that answers go to. */
export type Place = {
  readonly subject: string;
  /** How outcomes that come here are answered from now on. */
  receipt: Receipt;
  readonly heard: readonly Heard[];
  /** Waits for something that was said here; fails with `expected` after `withinMs`. */
  hears(expected: string, wanted: (said: Heard) => boolean, withinMs: number): Promise<Heard>;
};

/** A task that was given. */
export type Given = {
  readonly task: Task;
  readonly sentAt: number;
  /** Everything said about it, wherever, in its order. */
  readonly heard: readonly Heard[];
  readonly first: Place;
  /** A new place for answers, for `again` or an owner's question. */
  place(): Place;
  /** Sends the same task again, with another `delivery`. */
  again(to: Place, delivery: number): void;
  /** Asks for it as a new owner does. */
  askFor(to: Place): void;
  /** Says something to its worker; false where that has named no subject for it. */
  tell(control: TaskControl): boolean;
  /** Nobody wants its outcome any more, wherever it comes. */
  dismiss(): void;
};

export type ProbeOwner = {
  readonly agent: string;
  /** Sends a task; `changes` are to one that has all fields and an empty input. */
  give(changes: object, receipt?: Receipt): Given;
  /** Sends text that is no task. */
  giveText(text: string): Place;
  /** Asks, as a new owner does, for a task that nobody has. */
  askForNone(): Place;
  /** Ends what is left of a task: nobody wants it. */
  dismiss(given: Given): void;
  close(): void;
};

export type ProbeOptions = {
  bus: Bus;
  subjects: Subjects;
  agent: string;
};

/** As a real owner waits: 10 to 500 ms. */
const BUSY_PAUSE_MS = 200;
const OUTCOMES: readonly string[] = ["completed", "failed", "handoff"] satisfies OutcomeMessage["type"][];

/** Whether what was said is an outcome. */
export function isOutcome({ type }: Heard): boolean {
  return OUTCOMES.includes(type);
}

/** Starts listening as an owner. */
export function openProbeOwner({ bus, subjects, agent }: ProbeOptions): ProbeOwner {
  const { nc } = bus;
  // Where a daemon's owners listen, so that a worker needs no other permission than for work.
  const inbox = `_INBOX_${subjects.prefix}_daemon.owner.${nuid.next()}`;
  const listeners = new Map<string, (said: Heard) => void>();
  const pauses = new Set<NodeJS.Timeout>();
  const subscription = nc.subscribe(`${inbox}.>`, {
    callback: (error, msg) => error ?? listeners.get(msg.subject)?.(heardIn(msg)),
  });
  let places = 0;

  return {
    agent,
    give,
    giveText(text) {
      const place = openPlace("t1", "superseded");
      nc.publish(subjects.mailbox(agent), text, { reply: place.subject, headers: headersOf(false) });
      return place;
    },
    askForNone() {
      const place = openPlace("t1", "silence");
      ask({ runId: `conformance-${nuid.next()}`, taskId: "t1" }, place);
      return place;
    },
    dismiss(given) {
      given.dismiss();
      given.tell({ type: "cancel", taskId: given.task.taskId, reason: "the check is over" });
      for (const said of given.heard) if (isOutcome(said)) answer("superseded", said.reply);
    },
    close() {
      for (const pause of pauses) clearTimeout(pause);
      subscription.unsubscribe();
    },
  };

  function give(changes: object, receipt: Receipt = "recorded"): Given {
    const runId = `conformance-${nuid.next()}`;
    const task = {
      ...({ v: 1, taskId: "t1", runId, workflow: "conformance", agent, attempt: 1, delivery: 1, input: "" } as const),
      ...({ handoffs: [], hops: [], limits: {} } as const),
      ...changes,
    } as Task;
    const heard: Heard[] = [];
    const own: Place[] = [];
    let control: string | undefined;
    let isWanted = true;
    const first = open(receipt);
    const given: Given = {
      task,
      sentAt: performance.now(),
      heard,
      first,
      place: () => open("recorded"),
      again(to, delivery) {
        send({ ...task, delivery }, to.subject, true);
      },
      askFor: (to) => ask(task, to),
      tell(said) {
        if (control === undefined) return false;
        nc.publish(control, JSON.stringify(said));
        return true;
      },
      dismiss() {
        isWanted = false;
        for (const place of own) place.receipt = "superseded";
      },
    };
    send(task, first.subject, false);
    return given;

    function open(answered: Receipt): Place {
      const place = openPlace(task.taskId, answered, (said) => {
        heard.push(said);
        if (said.type === "accepted" || said.type === "working") control = said.reply ?? control;
        // O3
        if (said.type === "busy") later(() => isWanted && send(task, place.subject, true));
      });
      own.push(place);
      return place;
    }
  }

  function ask({ runId, taskId }: Pick<Task, "runId" | "taskId">, to: Place) {
    const reply = to.subject.slice(0, -taskId.length - 1);
    nc.publish(subjects.owners, JSON.stringify({ v: 1, runId, tasks: [taskId], reply }));
  }

  function answer(receipt: Receipt, reply: string | undefined) {
    if (reply && receipt !== "silence") nc.publish(reply, JSON.stringify({ type: receipt }));
  }

  function later(work: () => void) {
    const pause = setTimeout(() => {
      pauses.delete(pause);
      work();
    }, BUSY_PAUSE_MS);
    pauses.add(pause);
  }

  function send(task: Task, reply: string, isAgain: boolean) {
    nc.publish(subjects.mailbox(agent), JSON.stringify(task), { reply, headers: headersOf(isAgain) });
  }

  // O4
  function openPlace(taskId: string, receipt: Receipt, noted?: (said: Heard) => void): Place {
    places += 1;
    const subject = `${inbox}.${places}.${taskId}`;
    const heard: Heard[] = [];
    const waiting = new Set<(said: Heard) => void>();
    listeners.set(subject, (said) => {
      heard.push(said);
      if (isOutcome(said)) answer(place.receipt, said.reply);
      noted?.(said);
      for (const look of waiting) look(said);
    });
    const place: Place = {
      subject,
      receipt,
      heard,
      hears(expected, wanted, withinMs) {
        const { promise, resolve, reject } = Promise.withResolvers<Heard>();
        const timer = setTimeout(() => fail(`within ${Math.round(withinMs)} ms, got ${wordsOf(heard)}`), withinMs);
        // What nobody waits for any more keeps no process alive.
        timer.unref();
        const look = (said: Heard) => {
          if (wanted(said)) resolve(said);
          // A worker that went is not waited for.
          else if (said.type === NOBODY) fail("from a worker, but nobody serves the mailbox", "no_worker");
        };
        const fail = (got: string, code?: string) => reject(new CheckFailure(`expected ${expected} ${got}`, code));
        for (const said of heard) look(said);
        waiting.add(look);
        return promise.finally(() => {
          clearTimeout(timer);
          waiting.delete(look);
        });
      },
    };
    return place;
  }
}

const NOBODY = "nobody listens";

function heardIn(msg: Msg): Heard {
  const text = msg.string();
  const at = performance.now();
  const reply = msg.reply || undefined;
  if (text === "" && msg.headers?.code === 503) return { type: NOBODY, body: {}, text, reply, at };
  try {
    const body = JSON.parse(text) as { type?: unknown };
    if (typeof body.type === "string") return { type: body.type, body, text, reply, at };
    return { type: "a message without a type", body: {}, text, reply, at };
  } catch {
    return { type: "a message that is not JSON", body: {}, text, reply, at };
  }
}

/** What was said, for a sentence about what was expected. */
export function wordsOf(heard: readonly Heard[]): string {
  if (heard.length === 0) return "nothing";
  return heard.map(({ type, text }) => (OUTCOMES.includes(type) ? text.slice(0, 160) : type)).join(", ");
}

function headersOf(isAgain: boolean) {
  const sent = headers();
  sent.set(TRACEPARENT_HEADER, `00-${"c0".repeat(16)}-${"c0".repeat(8)}-00`);
  sent.set(SENT_AT_HEADER, String(Date.now()));
  if (isAgain) sent.set(SENT_AGAIN_HEADER, "1");
  return sent;
}
