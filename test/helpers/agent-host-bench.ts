/** An agent host on a real nats-server, with a model whose replies a test gives. */
import { pino } from "pino";
import type { Agent } from "../../src/actors/agent.ts";
import type { Model, ModelCallContext, ModelReply, ModelRequest } from "../../src/actors/model.ts";
import type { TaskEntry } from "../../src/actors/task.ts";
import { type AgentHost, type AgentHostOptions, startAgentHost } from "../../src/runtime/hosts/agent-host.ts";
import { type Bus, connectBus } from "../../src/runtime/nats/connection.ts";
import { type Journals, openJournals } from "../../src/runtime/nats/journal.ts";
import { provision } from "../../src/runtime/nats/provision.ts";
import { type Subjects, subjectsFor } from "../../src/runtime/subjects.ts";
import { noTracing } from "../../src/tracing/no-tracing.ts";
import { startTestNats, type TestNats } from "./nats-server.ts";
import { until } from "./until.ts";

export type ModelCall = { request: ModelRequest; context: ModelCallContext };
export type Script = (call: ModelCall) => ModelReply | Promise<ModelReply>;

export type Bench = {
  readonly nats: TestNats;
  readonly subjects: Subjects;
  /** For owners and watchers; hosts have connections of their own. */
  readonly bus: Bus;
  readonly journals: Journals<TaskEntry>;
  connect(name: string): Promise<Bus>;
  host(agents: readonly Agent[], script: Script, more?: Partial<AgentHostOptions>): Promise<BenchHost>;
  [Symbol.asyncDispose](): Promise<void>;
};

export type BenchHost = AgentHost & {
  readonly calls: ModelCall[];
  readonly bus: Bus;
  /** Waits until the model has been called `count` times. */
  called(count: number): Promise<void>;
};

/** Starts a broker, or uses one that somebody else ends. */
export async function startBench(shared?: TestNats): Promise<Bench> {
  const nats = shared ?? (await startTestNats());
  const subjects = subjectsFor();
  const buses: Bus[] = [];
  const hosts: AgentHost[] = [];
  const connectAs = async (name: string) => {
    const bus = await connectBus({ servers: nats.url, name, inboxPrefix: "_INBOX" });
    buses.push(bus);
    return bus;
  };
  const bus = await connectAs("owner");
  await provision(bus, subjects, { ackWaitMs: 30_000 });
  return {
    nats,
    subjects,
    bus,
    journals: openJournals<TaskEntry>(bus, subjects.streams.tasks),
    connect: connectAs,
    async host(agents, script, more = {}) {
      const own = await connectAs("host");
      const calls: ModelCall[] = [];
      const model: Model = {
        provider: "scripted",
        async call(request, context) {
          const made = { request, context };
          calls.push(made);
          return await raceAbort(Promise.resolve(script(made)), context.signal);
        },
      };
      const host = startAgentHost({
        bus: own,
        subjects,
        agents,
        modelFor: () => model,
        tracing: noTracing,
        logger: pino({ level: "silent" }),
        worker: `host${hosts.length + 1}/1`,
        ...more,
      });
      hosts.push(host);
      // Its subscriptions are with the broker once a round trip is done.
      await own.nc.flush();
      const called = async (count: number) => {
        await until(`${count} model calls`, () => calls.length >= count);
      };
      return Object.assign(host, { calls, bus: own, called });
    },
    async [Symbol.asyncDispose]() {
      for (const host of hosts) await host.stop();
      for (const open of buses) await open.close();
      if (!shared) await nats[Symbol.asyncDispose]();
    },
  };
}

function raceAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    work.then(resolve, reject);
  });
}
