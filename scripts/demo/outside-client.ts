/**
 * A client of the demo that knows nothing of Troupe but its subjects and JSON, as one in any other language would: it
 * publishes a request onto NATS, listens to the live feed, and gets the result at its own reply subject.
 */
import { randomUUID } from "node:crypto";
import { connect, createInbox, headers, type NatsConnection } from "nats";
import type { LiveEvent } from "../../src/runtime/edges/run-feed.ts";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import type { RunResult } from "../../src/workflows/run-record.ts";

type Published = { subject: string; body: string; replyTo: string; runId: string };

type Told = {
  published(request: Published): void;
  event(event: RunEvent | LiveEvent): void;
};

export type OutsideClient = {
  /** Requests a run and stays with it to its end. */
  request(workflow: string, input: unknown, told: Told): Promise<{ result: RunResult; traceId: string }>;
  close(): Promise<void>;
};

/** Connects like any NATS client. */
export async function connectOutside(natsUrl: string): Promise<OutsideClient> {
  const nc = await connect({ servers: natsUrl, name: "demo" });
  return {
    request: (workflow, input, told) => requestRun(nc, workflow, input, told),
    close: () => nc.close(),
  };
}

async function requestRun(nc: NatsConnection, workflow: string, input: unknown, told: Told) {
  // The message id doubles as the run's id. It has to be new: it also decides the trace's id, and collectors remember.
  const runId = `demo-${workflow}-${randomUUID().slice(0, 8)}`;
  const replyTo = createInbox();
  const feed = nc.subscribe(`troupe.events.${workflow}.${runId}.>`);
  const replies = nc.subscribe(replyTo, { max: 1 });
  const story = follow();
  const subject = `troupe.requests.${workflow}`;
  const body = JSON.stringify({ input, replyTo });
  const hdrs = headers();
  hdrs.set("Nats-Msg-Id", runId);
  nc.publish(subject, body, { headers: hdrs });
  told.published({ subject, body, replyTo, runId });

  for await (const reply of replies) return { result: reply.json<RunResult>(), traceId: await story };
  throw new Error(`the connection closed before ${runId} had a result`);

  /** Tells the run's events up to its end; gives the id of its trace. */
  async function follow(): Promise<string> {
    let traceId = "";
    for await (const message of feed) {
      const event = message.json<RunEvent | LiveEvent>();
      told.event(event);
      if (event.n === undefined) continue;
      if (event.type === "run.accepted") traceId = event.data.trace.traceId;
      if (event.type === "run.completed" || event.type === "run.failed" || event.type === "run.cancelled") break;
    }
    return traceId;
  }
}
