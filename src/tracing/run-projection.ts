/**
 * Folds a run's journal into its structural spans.
 *
 * R1  Every field of a span follows from the journal alone (and the constant resource): whoever folds the same entries makes
 *     the same spans, bit for bit.
 * R2  One root per run, at its acceptance; one segment per (task, delivery) ever sent and per step that waited; one
 *     `invoke_workflow` at the end.
 * R3  A segment ends exactly once: its task settled or handed off, was sent again (a tombstone), or its run ended.
 * R4  An outcome settles the delivery that is open, whichever worker it came from: the journal took it for that task.
 * R5  Nothing is made for a run that is not sampled, and nothing after its terminal event.
 * R6  What is saved between two entries and restored elsewhere goes on as if it had folded the entries before.
 */
import { type Attributes, type HrTime, SpanKind, TraceFlags } from "@opentelemetry/api";
import type { Resource } from "@opentelemetry/resources";
import type { TaskUsage } from "../actors/task.ts";
import type { NamedKind, RunEvent, RunTrace } from "../workflows/run-events.ts";
import { FinishedSpan, toHrTime } from "./finished-span.ts";
import * as name from "./semconv.ts";
import { addUsage, setUsage } from "./set-usage.ts";
import { endSpanId, rootSpanId, segmentSpanId } from "./trace-ids.ts";
import type { SegmentContext } from "./tracing.ts";

type Source = { agent: string; spanId: string };
type Ending = {
  at: string;
  worker?: string;
  usage?: TaskUsage;
  to?: string;
  error?: { code: string; message: string };
};
type Of<T extends RunEvent["type"]> = Extract<RunEvent, { type: T }>;

type Segment = {
  agent: string;
  /** What it is where it is no agent's. */
  kind?: NamedKind | "approval" | "wait";
  /** Of another run. */
  childId?: string;
  /** Of a signal. */
  signal?: string;
  /** Of an approval. */
  choice?: string;
  by?: string;
  step?: string;
  taskId: string;
  attempt: number;
  delivery: number;
  spanId: string;
  start: HrTime;
  /** The segment that handed the run over to this one. */
  source?: Source;
};

/** The fold between two entries, as plain data; the run's acceptance is kept elsewhere. */
export type SavedProjection = {
  open: readonly Segment[];
  handoffs: readonly (readonly [taskId: string, source: Source])[];
  usage: TaskUsage;
  handoffCount: number;
  stepsSkipped: number;
};

export type ProjectedRun = {
  runId: string;
  /** What the run was asked for, also when nobody knows such a workflow. */
  workflow: string;
  trace: RunTrace;
  /** The constant resource of structural spans. */
  resource: Resource;
};

/** The structural spans of one run, as far as its entries were folded. */
export class StructuralFold {
  readonly #run: ProjectedRun;
  #workflow: string;
  readonly #open = new Map<string, Segment>();
  /** Handoffs whose next task has not been sent yet, by that task's id. */
  readonly #handoffs = new Map<string, Source>();
  #usage: TaskUsage = { inputTokens: 0, outputTokens: 0, modelCalls: 0 };
  #handoffCount = 0;
  #stepsSkipped = 0;
  #rootId = "";
  #accepted: Of<"run.accepted"> | undefined;
  #ended = false;
  #parsed: { at: string; time: HrTime } = { at: "", time: [0, 0] };
  #made: FinishedSpan[] = [];

  constructor(run: ProjectedRun) {
    this.#run = run;
    this.#workflow = run.workflow;
  }

  /** What it takes to go on from here; undefined where there is nothing to go on with. */
  save(): SavedProjection | undefined {
    if (!this.#accepted) return undefined;
    const open = [...this.#open.values()];
    return {
      open,
      handoffs: [...this.#handoffs],
      usage: { ...this.#usage },
      handoffCount: this.#handoffCount,
      stepsSkipped: this.#stepsSkipped,
    };
  }

  /** Goes on from what was saved of the run; before anything is folded. */
  restore(accepted: Of<"run.accepted">, saved: SavedProjection): void {
    this.fold([accepted]);
    for (const segment of saved.open) this.#open.set(segment.taskId, segment);
    for (const [taskId, source] of saved.handoffs) this.#handoffs.set(taskId, source);
    this.#usage = { ...saved.usage };
    this.#handoffCount = saved.handoffCount;
    this.#stepsSkipped = saved.stepsSkipped;
  }

  /** The spans these events caused, oldest first; each is handed out once. */
  fold(events: readonly RunEvent[]): readonly FinishedSpan[] {
    this.#made = [];
    if (!this.#run.trace.sampled) return this.#made; // R5
    for (const event of events) {
      if (!this.#ended) this.#take(event); // R5
    }
    return this.#made;
  }

  /** The context that travels with a delivery of a task. */
  segment(taskId: string, delivery: number): SegmentContext {
    const { runId, trace } = this.#run;
    const open = this.#open.get(taskId);
    const spanId = open?.delivery === delivery ? open.spanId : segmentSpanId(runId, taskId, delivery);
    return { traceId: trace.traceId, spanId, sampled: trace.sampled };
  }

  #take(event: RunEvent): void {
    switch (event.type) {
      case "run.accepted":
        this.#accept(event);
        break;
      case "task.sent":
        this.#send(event);
        break;
      case "task.settled":
        this.#settle(event); // R4
        break;
      case "agent.handoff":
        this.#handOff(event);
        break;
      case "approval.requested":
        this.#wait(event, "approval");
        break;
      case "wait.begun":
        this.#wait(event, "wait");
        break;
      case "approval.resolved": {
        const { step, choice, by } = event.data;
        const segment = this.#open.get(waitKey(step));
        if (segment) this.#open.set(waitKey(step), { ...segment, choice, ...(by === undefined ? {} : { by }) });
        break;
      }
      case "step.completed":
        this.#end(waitKey(event.data.step), { at: event.at });
        break;
      case "step.failed":
        this.#end(waitKey(event.data.step), { at: event.at, error: event.data.error });
        break;
      case "step.skipped":
        // What has not been done has no span.
        this.#stepsSkipped += 1;
        break;
      case "step.cancelled": {
        const { taskId, step } = event.data;
        const error = { code: name.CANCELLED, message: "what it is a part of has failed" };
        this.#end(taskId ?? waitKey(step), { at: event.at, error });
        break;
      }
      case "run.failing":
      case "run.cancelling": {
        // Nothing from outside is waited for any more.
        const error = { code: name.CANCELLED, message: "the run goes on without it" };
        for (const key of [...this.#open.keys()]) if (isWaitKey(key)) this.#end(key, { at: event.at, error });
        break;
      }
      case "run.completed":
        this.#finish(event.at, "completed", undefined);
        break;
      case "run.failed":
        this.#finish(event.at, "failed", event.data.error);
        break;
      case "run.cancelled": {
        const message = event.data.reason ?? "the run was cancelled";
        this.#finish(event.at, "cancelled", { code: name.CANCELLED, message });
        break;
      }
      default:
        // Everything else changes no span.
        break;
    }
  }

  #accept(event: Of<"run.accepted">): void {
    if (this.#accepted) return;
    const { runId, trace, resource } = this.#run;
    this.#accepted = event;
    this.#workflow = event.data.workflow; // R1
    this.#rootId = rootSpanId(runId);
    const at = this.#time(event.at);
    this.#made.push(
      new FinishedSpan({
        name: `run ${this.#workflow}`,
        kind: SpanKind.PRODUCER,
        traceId: trace.traceId,
        spanId: this.#rootId,
        ...(trace.parentSpanId === undefined ? {} : { parentSpanId: trace.parentSpanId, remoteParent: true }),
        start: at,
        end: at,
        attributes: this.#runAttributes(),
        resource,
      }),
    );
  }

  #send(event: Of<"task.sent">): void {
    const { taskId, agent, kind, childId, step, attempt, delivery, lost } = event.data;
    const before = this.#open.get(taskId);
    if (before) {
      if (before.delivery >= delivery) return;
      this.#end(taskId, {
        at: event.at,
        ...(lost?.worker === undefined ? {} : { worker: lost.worker }),
        error: { code: name.WORKER_LOST, message: lost?.reason ?? "the task was sent again" },
      });
    }
    const source = before?.source ?? this.#handoffs.get(taskId);
    this.#handoffs.delete(taskId);
    this.#open.set(taskId, {
      agent,
      ...(kind === undefined ? {} : { kind }),
      ...(childId === undefined ? {} : { childId }),
      ...(step === undefined ? {} : { step }),
      taskId,
      attempt,
      delivery,
      spanId: segmentSpanId(this.#run.runId, taskId, delivery),
      start: this.#time(event.at),
      ...(source ? { source } : {}),
    });
  }

  #wait({ at, data: { step, ...data } }: Of<"approval.requested" | "wait.begun">, kind: "approval" | "wait"): void {
    const taskId = waitKey(step);
    this.#open.set(taskId, {
      agent: "",
      kind,
      ...("signal" in data && data.signal !== undefined ? { signal: data.signal } : {}),
      step,
      taskId,
      attempt: 1,
      delivery: 1,
      spanId: segmentSpanId(this.#run.runId, taskId, 1),
      start: this.#time(at),
    });
  }

  #settle({ at, data: { taskId, worker, outcome } }: Of<"task.settled">): void {
    this.#end(taskId, {
      at,
      ...(worker === undefined ? {} : { worker }),
      ...(outcome.usage ? { usage: outcome.usage } : {}),
      ...(outcome.type === "failed" ? { error: outcome.error } : {}),
    });
  }

  #handOff(event: Of<"agent.handoff">): void {
    const { taskId, to, next, worker, usage } = event.data;
    const segment = this.#open.get(taskId);
    if (!segment) return;
    this.#handoffCount += 1;
    this.#handoffs.set(next.taskId, { agent: segment.agent, spanId: segment.spanId });
    this.#end(taskId, {
      at: event.at,
      to,
      ...(worker === undefined ? {} : { worker }),
      ...(usage ? { usage } : {}),
    });
  }

  #end(taskId: string, ending: Ending): void {
    const segment = this.#open.get(taskId);
    if (!segment) return; // R3
    this.#open.delete(taskId);
    if (ending.usage) {
      addUsage(this.#usage, ending.usage);
      this.#usage.modelCalls += ending.usage.modelCalls;
    }
    this.#made.push(this.#segmentSpan(segment, ending));
  }

  #segmentSpan(segment: Segment, { at, worker, usage, to, error }: Ending): FinishedSpan {
    const { runId, trace, resource } = this.#run;
    const { source } = segment;
    const attributes: Attributes = {
      ...attributesOfKind(segment),
      [name.WORKFLOW_NAME]: this.#workflow,
      [name.RUN_ID]: runId,
    };
    const sessionId = this.#accepted?.data.sessionId;
    if (sessionId !== undefined) attributes[name.CONVERSATION_ID] = sessionId;
    if (segment.step !== undefined) attributes[name.STEP_ID] = segment.step;
    if (worker !== undefined) attributes[name.WORKER] = worker;
    if (usage) setTaskUsage(attributes, usage, name.TASK_MODEL_CALLS);
    // Jaeger does not show the attributes of links, so a handoff is told on both spans as well.
    if (source) attributes[name.HANDOFF_FROM] = source.agent;
    if (to !== undefined) attributes[name.HANDOFF_TO] = to;
    if (error) attributes[name.ERROR_TYPE] = error.code;
    return new FinishedSpan({
      name: segment.kind === undefined ? `invoke_agent ${segment.agent}` : `step ${segment.step}`,
      traceId: trace.traceId,
      spanId: segment.spanId,
      parentSpanId: this.#rootId,
      start: segment.start,
      end: this.#time(at),
      attributes,
      ...(source ? { links: [handoffLink(trace.traceId, source.spanId)] } : {}),
      ...(error ? { error: error.message } : {}),
      resource,
    });
  }

  #finish(at: string, outcome: string, error: { code: string; message: string } | undefined): void {
    const left =
      outcome === "cancelled"
        ? { code: name.CANCELLED, message: "the run was cancelled" }
        : { code: name.ABANDONED, message: `the run ${outcome}` };
    for (const taskId of [...this.#open.keys()]) this.#end(taskId, { at, error: left });
    this.#ended = true;
    if (!this.#accepted) return;
    const { runId, trace, resource } = this.#run;
    const attributes = this.#runAttributes();
    attributes[name.OPERATION] = "invoke_workflow";
    attributes[name.RUN_OUTCOME] = outcome;
    attributes[name.RUN_HANDOFFS] = this.#handoffCount;
    if (this.#stepsSkipped > 0) attributes[name.RUN_STEPS_SKIPPED] = this.#stepsSkipped;
    setTaskUsage(attributes, this.#usage, name.RUN_MODEL_CALLS);
    if (error) attributes[name.ERROR_TYPE] = error.code;
    this.#made.push(
      new FinishedSpan({
        name: `invoke_workflow ${this.#workflow}`,
        traceId: trace.traceId,
        spanId: endSpanId(runId),
        parentSpanId: this.#rootId,
        start: this.#time(this.#accepted.at),
        end: this.#time(at),
        attributes,
        ...(error ? { error: error.message } : {}),
        resource,
      }),
    );
  }

  /** Events of one entry mostly share their time. */
  #time(at: string): HrTime {
    if (this.#parsed.at !== at) this.#parsed = { at, time: toHrTime(Date.parse(at)) };
    return this.#parsed.time;
  }

  #runAttributes(): Attributes {
    const { runId } = this.#run;
    const attributes: Attributes = { [name.RUN_ID]: runId, [name.WORKFLOW_NAME]: this.#workflow };
    const { kind, version, sessionId, parent } = this.#accepted?.data ?? {};
    if (parent) attributes[name.PARENT_RUN_ID] = parent.runId;
    if (kind !== undefined) attributes[name.WORKFLOW_KIND] = kind;
    if (version !== undefined) attributes[name.WORKFLOW_VERSION] = version;
    if (sessionId !== undefined) attributes[name.CONVERSATION_ID] = sessionId;
    return attributes;
  }
}

/** How a step that waits is called among the open segments, and for its span id; no task is called like that. */
function waitKey(step: string): string {
  return `wait:${step}`;
}

function isWaitKey(key: string): boolean {
  return key.startsWith(waitKey(""));
}

function attributesOfKind({
  kind,
  agent,
  childId,
  signal,
  choice,
  by,
  taskId,
  attempt,
  delivery,
}: Segment): Attributes {
  const task = { [name.TASK_ID]: taskId, [name.TASK_ATTEMPT]: attempt, [name.TASK_DELIVERY]: delivery };
  if (kind === undefined) return { [name.OPERATION]: "invoke_agent", [name.AGENT_NAME]: agent, ...task };
  switch (kind) {
    case "tool":
      return { [name.STEP_KIND]: kind, [name.TOOL_NAME]: agent, ...task };
    case "workflow":
      return { [name.STEP_KIND]: kind, ...(childId === undefined ? {} : { [name.CHILD_RUN_ID]: childId }), ...task };
    case "approval":
    case "wait":
      return {
        [name.STEP_KIND]: kind,
        ...(signal === undefined ? {} : { [name.SIGNAL_NAME]: signal }),
        ...(choice === undefined ? {} : { [name.APPROVAL_CHOICE]: choice }),
        ...(by === undefined ? {} : { [name.APPROVAL_BY]: by }),
      };
  }
}

function setTaskUsage(attributes: Attributes, usage: TaskUsage, modelCalls: string): void {
  setUsage(attributes, usage);
  attributes[modelCalls] = usage.modelCalls;
}

function handoffLink(traceId: string, spanId: string) {
  return {
    context: { traceId, spanId, traceFlags: TraceFlags.SAMPLED },
    attributes: { [name.LINK_RELATION]: "handoff_from" },
  };
}
