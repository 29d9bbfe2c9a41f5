/**
 * The seam between the runtime and telemetry: what the hosts tell it, in words of Troupe. Only `src/tracing` knows
 * OpenTelemetry.
 *
 * Two kinds of spans (see shared design "early root + segments + tombstone"):
 * - structural spans (`run`, `invoke_agent`, `invoke_workflow`) may be parents, so every process can make them again from
 *   the journal: ids are derived, times are the journal's, the resource is constant. The owner of a run projects them.
 * - leaves (`chat`, `execute_tool`) are ordinary spans of the process that does the work; they are never anybody's parent.
 */
import type { Message } from "../actors/conversation.ts";
import type { Usage } from "../actors/model.ts";
import type { RunEvent, RunTrace } from "../workflows/run-events.ts";
import type { SavedProjection } from "./run-projection.ts";

/** Where a leaf hangs: the segment of the task it belongs to. */
export type SegmentContext = { traceId: string; spanId: string; sampled: boolean };

/** A leaf that is running. */
export type Leaf = {
  /** Runs `work` so that spans made inside it become children of this leaf. */
  within<T>(work: () => T): T;
  /** Ends it; attributes in semantic-convention names are made from these words. */
  end(result: LeafResult): void;
};

export type LeafResult = {
  error?: { code: string; message: string };
  usage?: Usage;
  responseModel?: string;
  responseId?: string;
  finishReason?: string;
  /** When the first piece of a streamed reply came, in milliseconds after the start. */
  firstChunkMs?: number;
  /** A model's reply or a tool's result. Only kept when content capture is on. */
  content?: unknown;
};

export type ChatStart = {
  agent: string;
  runId: string;
  taskId: string;
  turn: number;
  provider: string;
  model: string;
  serverAddress?: string;
  serverPort?: number;
  /** Only kept when content capture is on. */
  instructions?: string;
  /** Only kept when content capture is on. */
  messages?: readonly Message[];
};

export type ToolStart = {
  agent: string;
  runId: string;
  taskId: string;
  tool: string;
  callId: string;
  description?: string;
  /** The JSON text the model wrote. Only kept when content capture is on. */
  arguments?: string;
};

/** The spans of one run as far as its owner has recorded them; feed it every entry after its append succeeded. */
export type RunProjection = {
  /** Takes in entries that another process recorded, or this one before a restart: nothing is exported for them. */
  replayed(events: readonly RunEvent[]): void;
  /** `seq` is the entry's sequence in the stream; spans count as exported up to it once the exporter said so. */
  recorded(events: readonly RunEvent[], seq: number): void;
  /** The context that travels with a task. */
  segment(taskId: string, delivery: number): SegmentContext;
  /** What it takes to go on from here without the entries so far; undefined where nothing is made of the run. */
  save(): SavedProjection | undefined;
  /** Goes on from what was saved of the run, before anything else is told. */
  restore(accepted: Accepted, saved: SavedProjection): void;
};

type Accepted = Extract<RunEvent, { type: "run.accepted" }>;

/** One entry of a run's journal with its sequence in the stream. */
export type JournalEntry = { events: readonly RunEvent[]; seq: number };

/** The entries of a journal from its beginning, or after what was saved. */
export type JournalPart = {
  accepted: Accepted;
  saved?: SavedProjection;
  entries: readonly JournalEntry[];
};

export type Tracing = {
  /** Where spans go, for people to read: the OTLP endpoint, `console` or `nowhere`. */
  readonly destination: string;
  /** Whether a run that no caller decided for is traced; `OTEL_TRACES_SAMPLER` says. */
  decideSampling(traceId: string): boolean;
  /** Starts the projection of a run; a takeover first feeds it the journal with `replayed`, or with `restore` and `replayed`. */
  run(runId: string, workflow: string, trace: RunTrace): RunProjection;
  /**
   * Makes the structural spans of a journal again and exports those that entries after `fromSeq` caused: identical to the ones
   * the dead owner made or would have made. Resolves once they are exported or given up; never rejects. A journal that has yet
   * to be read is only asked for where there is something to make of it; one that cannot be read leaves the mark where it is.
   */
  reproject(
    journal: JournalPart | { accepted: Accepted; read: () => Promise<JournalPart> },
    fromSeq: number,
    /** The entry that made them this process's to export; until they are, `exportedThrough` stays below it. */
    since?: number,
  ): Promise<void>;
  /** The context of any task's segment: derived, so whoever sends a task can make it. */
  segmentOf(
    trace: Pick<RunTrace, "traceId" | "sampled">,
    runId: string,
    taskId: string,
    delivery: number,
  ): SegmentContext;
  chat(parent: SegmentContext, start: ChatStart): Leaf;
  tool(parent: SegmentContext, start: ToolStart): Leaf;
  /** Holds back the leaves of a segment that no journal may ever know, until `release` or `discard`. */
  hold(segment: SegmentContext): void;
  release(segment: SegmentContext): void;
  discard(segment: SegmentContext): void;
  /**
   * The highest stream sequence up to which every structural span caused by entries this process recorded is exported or
   * given up (a queue that stayed full); 0 before the first entry.
   */
  exportedThrough(): number;
  /** Exports what is left, for at most `timeoutMs` milliseconds; never rejects. */
  stop(timeoutMs: number): Promise<void>;
};
