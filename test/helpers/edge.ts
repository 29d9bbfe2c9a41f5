/** What a daemon shows to the outside, without the daemon: streams, index and API, and journals written by hand. */
import { pino } from "pino";
import type { TaskEntry } from "../../src/actors/task.ts";
import { type Api, type ApiOptions, startApi } from "../../src/runtime/edges/api.ts";
import { type Client, connect } from "../../src/runtime/edges/client.ts";
import { openScheduleApi } from "../../src/runtime/edges/schedule-api.ts";
import { openWorkflowApi } from "../../src/runtime/edges/workflow-api.ts";
import { holdDefinitions } from "../../src/runtime/hosts/definitions.ts";
import { openRunIndex, type RunIndex } from "../../src/runtime/hosts/run-index.ts";
import { openScheduleStore } from "../../src/runtime/hosts/schedule-store.ts";
import { followDefinitions } from "../../src/runtime/hosts/stored-definitions.ts";
import type { Bus } from "../../src/runtime/nats/connection.ts";
import { openJournals } from "../../src/runtime/nats/journal.ts";
import { nuid } from "../../src/runtime/nats/nats.ts";
import { provision } from "../../src/runtime/nats/provision.ts";
import { type Subjects, subjectsFor } from "../../src/runtime/subjects.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";

export type Edge = {
  subjects: Subjects;
  index: RunIndex;
  client: Client;
  /** Starts another API on the same streams. */
  startApi(options?: Partial<ApiOptions>): Promise<Api>;
  /** Appends an entry; where nobody else writes, the run's end is known from the entry before. */
  append(events: readonly RunEvent[]): Promise<number>;
  /** Puts events on the live feed. */
  tell(events: readonly RunEvent[]): void;
  /** Requests at the door, oldest first. */
  requests(): Promise<{ body: unknown; traceparent: string | undefined }[]>;
  [Symbol.asyncDispose](): Promise<void>;
};

export const ARTICLE = defineWorkflow({
  name: "article",
  description: "Writes",
  steps: [
    { id: "facts", agent: "researcher" },
    { id: "write", agent: "writer", after: "facts" },
    { id: "check", agent: "researcher", after: "write" },
  ],
});

/** Streams of their own on `bus`; with `serve: false` nobody answers the API. */
export async function startEdge(bus: Bus, { serve = true, timeoutMs = 10_000 } = {}): Promise<Edge> {
  const subjects = subjectsFor(`t${nuid.next()}`);
  const logger = pino({ level: "silent" });
  await provision(bus, subjects, { ackWaitMs: 5_000 });
  const journals = openJournals<RunEvent[]>(bus, subjects.streams.runs);
  const index = openRunIndex({ file: ":memory:", bus, subjects, logger });
  const store = openScheduleStore({ bus, subjects, logger, now: Date.now });
  const ends = new Map<string, number>();
  const definitions = holdDefinitions([ARTICLE]);
  const stored = followDefinitions({ bus, subjects, logger, changed: definitions.store, settled: () => {} });
  const means = { tools: new Map(), modelFor: () => undefined };
  const workflows = openWorkflowApi({ definitions, stored, means: () => means, agents: () => [], living: () => [] });
  const apis: Api[] = [];
  const edge: Edge = {
    subjects,
    index,
    client: await connect({ connection: bus.nc, prefix: subjects.prefix, timeoutMs }),
    async startApi(options = {}) {
      const api = await startApi({
        bus,
        subjects,
        index,
        journals,
        taskJournals: openJournals<TaskEntry>(bus, subjects.streams.tasks),
        workflows,
        // The hash in the journals of `run-events.ts`.
        definitions: {
          pinned: (workflow, hash) => (workflow === ARTICLE.name && hash === "abc" ? ARTICLE : undefined),
        },
        startable: async (workflow) => (workflow === ARTICLE.name ? {} : undefined),
        agents: () => [{ name: "writer", hosts: ["here"] }],
        schedules: openScheduleApi({ store, now: Date.now, isDeclared: () => false }),
        parked: { resume: async () => ({ is: "unknown" }), fail: async () => ({ is: "unknown" }) },
        retries: { prepare: () => Promise.reject(new Error("nothing can be tried again here")) },
        logger,
        version: "0.1.0",
        ...options,
      });
      apis.push(api);
      return api;
    },
    async append(events) {
      const [first] = events;
      if (!first) throw new Error("expected at least one event");
      const { id, runId } = first;
      const body = Buffer.from(JSON.stringify(events));
      const seq = await journals.append(subjects.run(runId), body, { expected: ends.get(runId) ?? 0, id });
      ends.set(runId, seq);
      return seq;
    },
    tell(events) {
      for (const event of events) {
        bus.nc.publish(subjects.event("article", event.runId, event.type), JSON.stringify(event));
      }
    },
    async requests() {
      const found: Awaited<ReturnType<Edge["requests"]>> = [];
      const jsm = await bus.jsm();
      const { state } = await jsm.streams.info(subjects.streams.requests);
      for (let seq = state.first_seq; state.messages > 0 && seq <= state.last_seq; seq += 1) {
        const message = await jsm.streams.getMessage(subjects.streams.requests, { seq });
        const traceparent = message.header.get("traceparent");
        found.push({ body: message.json(), traceparent: traceparent || undefined });
      }
      return found;
    },
    async [Symbol.asyncDispose]() {
      for (const api of apis) await api.stop();
      await Promise.all([index.close(), store.stop(), stored.stop()]);
    },
  };
  if (serve) await edge.startApi();
  return edge;
}
