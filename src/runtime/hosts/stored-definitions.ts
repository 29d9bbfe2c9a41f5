/**
 * The definitions that were put into this troupe: a stream keeps every version, and every daemon follows it from the beginning.
 *
 * Invariants
 * B1  A daemon says that it is ready only once it has read all that was stored before, and takes over no run sooner: it would
 *     park what it does not know yet.
 * B2  A change is stored only behind the one it was decided on: the broker compares. Of two at once one is refused.
 * B3  What cannot be read is a version too, which this daemon does not understand: it goes on with none before it.
 */
import type { Logger } from "pino";
import type { Bus } from "../nats/connection.ts";
import { followStream } from "../nats/follow.ts";
import { openNewest } from "../nats/newest.ts";
import type { Subjects } from "../subjects.ts";
import { type DefinitionRecord, readRecord, unreadable } from "./definition-record.ts";
import { type StoredWorkflow, withChange } from "./stored-versions.ts";

export type StoredDefinitions = {
  /** What was stored before this daemon started has been read. */
  ready(): Promise<void>;
  readonly isReady: boolean;
  /** Resolves when this daemon knows what is stored of a workflow now. @throws UnavailableError when that cannot be asked. */
  refresh(workflow: string): Promise<void>;
  /**
   * Stores a change behind the one at `expected` (0: the first one); resolves once this daemon has it too, with false where
   * another one stands there (B2).
   *
   * @throws PayloadTooLargeError; UnavailableError when it is not known to be stored.
   */
  append(record: DefinitionRecord, expected: number): Promise<boolean>;
  stop(): Promise<void>;
};

export type StoredDefinitionsOptions = {
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
  /** What is stored of a workflow, after a change. */
  changed(workflow: StoredWorkflow): void;
  /** Some have changed: what follows from it for the whole is done once for many. */
  settled(): void;
};

const NOT_UNDERSTOOD = "a stored workflow that this daemon does not understand; it leaves its runs to others";

/** Starts following what is stored. */
export function followDefinitions(options: StoredDefinitionsOptions): StoredDefinitions {
  const { bus, subjects, logger, changed, settled } = options;
  const { definitions: stream } = subjects.streams;
  const newest = openNewest(bus, stream);
  const workflows = new Map<string, StoredWorkflow>();
  const waiting = new Set<{ seq: number; resolve: () => void }>();
  const { promise: caughtUp, resolve: noteCaughtUp } = Promise.withResolvers<void>();
  let isReady = false;
  let reached = 0;
  const follower = followStream({
    bus,
    stream,
    logger,
    from: () => reached + 1,
    entries(batch) {
      for (const { seq, subject, data } of batch) hear(seq, subject, data);
      settled();
      for (const one of waiting) {
        if (one.seq > reached) continue;
        waiting.delete(one);
        one.resolve();
      }
    },
    caughtUp() {
      isReady = true;
      noteCaughtUp();
    },
  });

  return {
    ready: () => caughtUp,
    get isReady() {
      return isReady;
    },
    async refresh(workflow) {
      const last = await newest.get(subjects.definition(workflow));
      if (last) await knows(last.seq);
    },
    async append(record, expected) {
      const body = Buffer.from(JSON.stringify(record));
      const seq = await newest.put(subjects.definition(record.workflow), body, expected);
      if (seq === undefined) return false;
      await knows(seq);
      return true;
    },
    async stop() {
      for (const { resolve } of waiting) resolve();
      await follower.stop();
    },
  };

  function hear(seq: number, subject: string, data: Uint8Array) {
    reached = seq;
    const name = subject.slice(subjects.definition("").length);
    const read = readRecord(data);
    const before = workflows.get(name);
    // B3
    const record = read?.workflow === name ? read : unreadable(name, (before?.last.number ?? 0) + 1);
    const workflow = withChange(before, record, seq);
    if (workflow.current?.trouble) {
      logger.warn({ workflow: name, version: `#${record.number}`, reason: workflow.current.trouble }, NOT_UNDERSTOOD);
    }
    workflows.set(name, workflow);
    changed(workflow);
  }

  function knows(seq: number): Promise<void> {
    if (seq <= reached) return Promise.resolve();
    return new Promise((resolve) => waiting.add({ seq, resolve }));
  }
}
