/** Run hosts on a real nats-server without daemons around them, and workers that a test moves by hand. */
import { pino } from "pino";
import type { Outcome, OutcomeReceipt, OwnerNotice, Task, TaskControl, TaskEntry } from "../../src/actors/task.ts";
import { systemClock } from "../../src/runtime/hosts/clock.ts";
import { holdDefinitions } from "../../src/runtime/hosts/definitions.ts";
import { type RunHost, type RunHostOptions, startRunHost } from "../../src/runtime/hosts/run-host.ts";
import { type Bus, connectBus } from "../../src/runtime/nats/connection.ts";
import { type Journals, openJournals } from "../../src/runtime/nats/journal.ts";
import { type Msg, nuid } from "../../src/runtime/nats/nats.ts";
import { provision } from "../../src/runtime/nats/provision.ts";
import { type Subjects, subjectsFor } from "../../src/runtime/subjects.ts";
import { noMetrics } from "../../src/tracing/metrics.ts";
import { noTracing } from "../../src/tracing/no-tracing.ts";
import type { WorkflowDefinition } from "../../src/workflows/definition.ts";
import { isTerminal, type RunEvent, type RunRequest } from "../../src/workflows/run-events.ts";
import { startTestNats, type TestNats } from "./nats-server.ts";
import { USAGE } from "./run-events.ts";
import { until } from "./until.ts";

export type RunBench = AsyncDisposable & {
  readonly nats: TestNats;
  readonly bus: Bus;
  readonly subjects: Subjects;
  readonly journals: Journals<RunEvent[]>;
  readonly taskJournals: Journals<TaskEntry>;
  /** Starts a host with a connection of its own; its incarnation is its name and a number. */
  host(name: string, definitions: readonly WorkflowDefinition[], more?: Partial<RunHostOptions>): Promise<RunHost>;
  worker(agent: string, name?: string): Promise<HandWorker>;
  /** Makes a request a run of `host`; gives the run's id. */
  start(host: RunHost, workflow: string, request?: Partial<RunRequest>): Promise<string>;
  events(runId: string): Promise<RunEvent[]>;
  /** The types of a run's events so far, with the task, step or timer each is about. */
  told(runId: string): Promise<string[]>;
  /** Waits for the run's end. */
  end(runId: string): Promise<RunEvent>;
};

/** A worker of one agent: every task comes into the test's hands. */
export type HandWorker = {
  /** As it stands in answers. */
  readonly name: string;
  readonly tasks: Task[];
  readonly controls: TaskControl[];
  /** Whether it answers a new owner's question. @default true */
  honest: boolean;
  /** Answers every task by itself, at once; those for which there is no output come into the test's hands. */
  answersWith(output: (task: Task) => unknown): void;
  /** Waits for a task, or for its nth delivery here. */
  gets(taskId: string, nth?: number): Promise<Task>;
  /** Says something about a task it got, to the owner that sent it last. */
  say(type: "accepted" | "working" | "busy", taskId: string, delivery?: number): void;
  /** Sends an outcome and waits for the receipt; undefined when nobody answers within a second. */
  settle(taskId: string, outcome: Outcome | object): Promise<OutcomeReceipt["type"] | undefined>;
  completes(taskId: string, output?: unknown): Promise<OutcomeReceipt["type"] | undefined>;
  /** Takes a task from another worker's hands, as after a handoff. */
  forward(task: Task, reply: string): void;
  replyTo(taskId: string): string;
  controlled(type: TaskControl["type"], taskId: string): Promise<TaskControl>;
  stop(): void;
};

const logger = pino({ level: "silent" });

export async function startRunBench(): Promise<RunBench> {
  const nats = await startTestNats();
  const subjects = subjectsFor();
  const buses: Bus[] = [];
  const hosts: RunHost[] = [];
  const connectAs = async (name: string) => {
    const made = await connectBus({ servers: nats.url, name, inboxPrefix: `_INBOX_${name}` });
    buses.push(made);
    return made;
  };
  const bus = await connectAs("bench");
  await provision(bus, subjects, { ackWaitMs: 30_000 });
  const journals = openJournals<RunEvent[]>(bus, subjects.streams.runs);
  const taskJournals = openJournals<TaskEntry>(bus, subjects.streams.tasks);
  const events = async (runId: string) => (await journals.read(subjects.run(runId))).flatMap(({ value }) => value);

  return {
    nats,
    bus,
    subjects,
    journals,
    taskJournals,
    async host(name, definitions, more = {}) {
      const own = await connectAs(name);
      const incarnation = `${name}${hosts.length + 1}`;
      const host = startRunHost({
        bus: own,
        subjects,
        journals: openJournals<RunEvent[]>(own, subjects.streams.runs),
        taskJournals: openJournals<TaskEntry>(own, subjects.streams.tasks),
        definitions: holdDefinitions(definitions),
        tracing: noTracing,
        clock: systemClock,
        logger,
        inbox: `_INBOX_${name}.owner.${incarnation}`,
        writer: { host: name, incarnation },
        observer: { entry() {} },
        acceptTimeoutMs: 300,
        silenceMs: 60_000,
        cancelGraceMs: 20_000,
        metrics: noMetrics,
        known: () => false,
        workersOf: () => [],
        exportMark: () => undefined,
        journalLimits: { events: 50_000, bytes: 64 * 1024 * 1024 },
        isLiving: () => false,
        maxRuns: 1_000,
        ...more,
      });
      hosts.push(host);
      await own.nc.flush();
      return host;
    },
    worker: async (agent, name = `${agent}/1`) =>
      startWorker(await connectAs(`worker${buses.length}`), subjects, agent, name),
    async start(host, workflow, request = {}) {
      const runId = nuid.next();
      await host.accept({ workflow, runId, request: { input: "bees", ...request } });
      return runId;
    },
    events,
    async told(runId) {
      return (await events(runId)).map(({ type, data }) => {
        const { taskId, step, id } = data as { taskId?: string; step?: string; id?: string };
        return [type, taskId ?? step ?? id].filter((part) => part !== undefined).join(" ");
      });
    },
    end: (runId) =>
      until(`the end of run ${runId}`, async () => (await events(runId)).find(({ type }) => isTerminal(type))),
    async [Symbol.asyncDispose]() {
      for (const host of hosts) host.stop();
      for (const open of buses) await open.close();
      await nats[Symbol.asyncDispose]();
    },
  };
}

async function startWorker(bus: Bus, subjects: Subjects, agent: string, name: string): Promise<HandWorker> {
  const tasks: Task[] = [];
  const controls: TaskControl[] = [];
  const replies = new Map<string, string>();
  const control = bus.inbox();
  let outputOf: ((task: Task) => unknown) | undefined;
  const subscriptions = [
    bus.nc.subscribe(control, { callback: (_, message) => controls.push(message.json<TaskControl>()) }),
    bus.nc.subscribe(subjects.owners, { callback: (_, message) => onOwner(message) }),
    bus.nc.subscribe(subjects.mailbox(agent), { queue: subjects.workers, callback: (_, message) => onTask(message) }),
  ];
  await bus.nc.flush();

  const worker: HandWorker = {
    name,
    tasks,
    controls,
    honest: true,
    answersWith(output) {
      outputOf = output;
    },
    async gets(taskId, nth = 1) {
      const found = () => tasks.filter((task) => task.taskId === taskId)[nth - 1];
      return until(`delivery ${nth} of task ${taskId} here`, found);
    },
    say(type, taskId, delivery) {
      const words = JSON.stringify({ type, taskId, worker: name, delivery });
      bus.nc.publish(replyOf(taskId), words, { reply: control });
    },
    async settle(taskId, outcome) {
      const message = JSON.stringify({ v: 1, taskId, attempt: 1, worker: name, ...outcome });
      try {
        const receipt = await bus.request(replyOf(taskId), message, { timeoutMs: 1_000 });
        return receipt.json<OutcomeReceipt>().type;
      } catch {
        return undefined;
      }
    },
    completes: (taskId, output = `output of ${taskId}`) =>
      worker.settle(taskId, { type: "completed", output, usage: USAGE }),
    forward(task, reply) {
      tasks.push(task);
      replies.set(task.taskId, reply);
    },
    replyTo: replyOf,
    controlled: (type, taskId) =>
      until(`${type} of task ${taskId}`, () => controls.find((said) => said.type === type && said.taskId === taskId)),
    stop() {
      for (const subscription of subscriptions) subscription.unsubscribe();
    },
  };
  return worker;

  function replyOf(taskId: string): string {
    const reply = replies.get(taskId);
    if (!reply) throw new Error(`expected a task this worker got, got ${taskId}`);
    return reply;
  }

  function onTask(message: Msg): void {
    const task = message.json<Task>();
    const output = outputOf?.(task);
    if (output !== undefined) {
      const { taskId } = task;
      const outcome = {
        v: 1,
        taskId,
        attempt: 1,
        worker: name,
        type: "completed",
        output,
        usage: USAGE,
      };
      void bus.request(message.reply ?? "", JSON.stringify(outcome)).catch(() => {});
      return;
    }
    tasks.push(task);
    replies.set(task.taskId, message.reply ?? "");
  }

  function onOwner(message: Msg): void {
    if (!worker.honest) return;
    const { runId, tasks: asked, reply } = message.json<OwnerNotice>();
    for (const taskId of asked) {
      const mine = tasks.some((task) => task.runId === runId && task.taskId === taskId);
      const type = mine ? "accepted" : "unknown";
      if (mine) replies.set(taskId, `${reply}.${taskId}`);
      bus.nc.publish(`${reply}.${taskId}`, JSON.stringify({ type, taskId, worker: name }), { reply: control });
    }
  }
}
