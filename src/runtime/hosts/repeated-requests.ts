/**
 * Requests for runs that exist already: there is one run, but whoever asked again still gets its result at its own `replyTo`.
 */
import { isTerminal, type RunEvent } from "../../workflows/run-events.ts";
import type { Bus } from "../nats/connection.ts";
import type { Journals } from "../nats/journal.ts";
import type { Subjects } from "../subjects.ts";
import type { IncomingRequest } from "./request.ts";
import { openResults } from "./results.ts";
import type { RunIndex } from "./run-index.ts";
import { resultOf } from "./run-telling.ts";

export type RepeatedRequests = {
  add(incoming: IncomingRequest): Promise<void>;
  stop(): void;
};

// Those who ask for the same run over and over are kept apart only so far.
const MAX_WAITING = 10_000;

/** Starts answering repeated requests. */
export function answerRepeatedRequests(options: {
  bus: Bus;
  subjects: Subjects;
  journals: Journals<RunEvent[]>;
  index: RunIndex;
}): RepeatedRequests {
  const { bus, subjects, journals, index } = options;
  const results = openResults(bus);
  const waiting = new Map<string, { workflow: string; replyTo: Set<string> }>();
  const stopListening = index.onEntry((runId, events) => {
    const last = events.at(-1);
    if (waiting.size > 0 && last && isTerminal(last.type)) tell(runId, last);
  });

  return {
    async add({ runId, workflow, request }) {
      if (!request.replyTo) return;
      const entry = waiting.get(runId) ?? { workflow, replyTo: new Set() };
      entry.replyTo.add(request.replyTo);
      waiting.set(runId, entry);
      if (waiting.size > MAX_WAITING) waiting.delete(waiting.keys().next().value as string);
      // It may have ended before anybody listened.
      const last = (await journals.last(subjects.run(runId)))?.value.at(-1);
      if (last && isTerminal(last.type)) tell(runId, last);
    },
    stop() {
      stopListening();
      results.stop();
    },
  };

  function tell(runId: string, terminal: RunEvent) {
    const entry = waiting.get(runId);
    if (!entry) return;
    waiting.delete(runId);
    const result = resultOf(entry.workflow, runId, terminal);
    for (const subject of entry.replyTo) results.send(subject, result);
  }
}
