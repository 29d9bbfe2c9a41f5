/**
 * Where finished spans wait for the collector, structural spans and leaves alike.
 *
 * Q1  A span leaves the queue in one of three ways: the collector took it, the collector will never take it, or the queue was
 *     full and it was among the oldest. The last two are counted and said.
 * Q2  `add` never throws, never waits, and costs a push: a collector that is slow, hangs or is away is felt only here.
 * Q3  Whatever is not settled after an attempt is tried again, with backoff; one attempt at a time until one succeeds.
 * Q4  No timer of the queue keeps the process alive, except the one that `drain` waits with.
 * Q5  When the queue is full leaves go first: nothing hangs below them. A structural span that has to go all the same is not
 *     exported, and stays so for this process: whoever comes after it makes it again from the journal.
 */
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import { type SendResult, type SpanSender, untraced } from "./span-sender.ts";

/** A logger as pino is one. */
export type TracingLogger = { warn(fields: object, message: string): void };

export type SpanQueueOptions = {
  sender: SpanSender;
  logger: TracingLogger | undefined;
  /** Told how many spans were given up. */
  onDropped: ((spans: number) => void) | undefined;
  /** How long a span waits for company, in milliseconds. */
  delayMs: number;
  /** Spans in one request. */
  batchSize: number;
  /** Spans kept while the collector is away. */
  capacity: number;
  /** Nobody asked for this collector: say nothing of its absence until it answered once. */
  optional: boolean;
};

/** What became of spans that are watched together. */
export type Watch = { left: number; settled: () => void };

type Entry = {
  span: ReadableSpan;
  /** The stream sequence of the journal entry that caused it; leaves have none. */
  seq: number | undefined;
  watch: Watch | undefined;
};

/** Requests at once while the collector answers: one alone would bind throughput to the round trip. */
const LANES = 4;
/**
 * What is kept for a collector that has not answered once: in most set-ups without telemetry there is none, and memory is
 * better spent on something else.
 */
const UNPROVEN_CAPACITY = 8_192;
const FIRST_BACKOFF_MS = 500;
const MAX_BACKOFF_MS = 30_000;
/** A collector that is away all night is worth a line per minute, not per batch. */
const WARN_EVERY_MS = 60_000;

export class SpanQueue {
  readonly #options: SpanQueueOptions;
  #waiting: Entry[] = [];
  readonly #inFlight = new Set<Entry[]>();
  #timer: NodeJS.Timeout | undefined;
  #proven = false;
  #failures = 0;
  /** While set, nothing is sent: the timer that ends the backoff is running. */
  #backingOff = false;
  readonly #held = new Set<{ seq: number }>();
  #dropped = 0;
  #warnedAt = Number.NEGATIVE_INFINITY;
  #drained: (() => void) | undefined;
  #closed = false;
  /** The lowest sequence that was still waiting when the queue closed, or had to make room. */
  #lowestLeft = Number.POSITIVE_INFINITY;

  constructor(options: SpanQueueOptions) {
    this.#options = options;
  }

  /** Takes a finished span for export. */
  add(span: ReadableSpan, seq?: number, watch?: Watch): void {
    const entry = { span, seq, watch };
    if (this.#closed) {
      this.#settle([entry]);
      return;
    }
    this.#waiting.push(entry);
    if (this.#waiting.length > this.#limit()) this.#makeRoom();
    if (this.#waiting.length >= this.#options.batchSize) this.#pump(false);
    else this.#schedule(this.#options.delayMs);
  }

  /** Counts spans at `seq` that are still to be made as waiting, until the returned function is called. */
  hold(seq: number | undefined): () => void {
    const hold = seq === undefined ? undefined : { seq };
    if (hold) this.#held.add(hold);
    return () => void (hold && this.#held.delete(hold));
  }

  /** The lowest stream sequence some waiting span was caused by; undefined when none waits. */
  lowestPending(): number | undefined {
    let lowest = this.#lowestLeft;
    for (const batch of [[...this.#held], this.#waiting, ...this.#inFlight]) {
      for (const { seq } of batch) if (seq !== undefined && seq < lowest) lowest = seq;
    }
    return lowest === Number.POSITIVE_INFINITY ? undefined : lowest;
  }

  /**
   * Sends what waits, for at most `timeoutMs`, and closes. A collector that is away now is not waited for: the journal has
   * what it takes to make the structural spans again.
   */
  async drain(timeoutMs: number): Promise<void> {
    if (this.#closed) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
      this.#drained = resolve;
      this.#endBackoff();
      this.#pump(true);
      this.#tellWhenEmpty();
    });
    clearTimeout(timer);
    this.#close();
  }

  #close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    const left = [this.#waiting, ...this.#inFlight].flat();
    // What was not sent by now is not exported: the mark stays below it, and others make it again.
    this.#lowestLeft = Math.min(this.#lowestLeft, this.lowestPending() ?? Number.POSITIVE_INFINITY);
    this.#waiting = [];
    this.#inFlight.clear();
    this.#options.sender.close();
    if (left.length > 0) this.#giveUp(left, "telemetry stopped before the collector took them");
  }

  #limit(): number {
    return this.#proven ? this.#options.capacity : Math.min(this.#options.capacity, UNPROVEN_CAPACITY);
  }

  // Q5
  #makeRoom(): void {
    // A batch at a time: taking single spans out of a long array moves all the others.
    const { batchSize } = this.#options;
    const leaves = new Set<Entry>();
    for (const entry of this.#waiting) {
      if (leaves.size === batchSize) break;
      if (entry.seq === undefined) leaves.add(entry);
    }
    // A handful of leaves is not worth going through all the others at every span.
    const isWorthIt = leaves.size > 0 && leaves.size >= Math.min(batchSize, this.#waiting.length) / 8;
    const gone = isWorthIt ? [...leaves] : this.#waiting.splice(0, batchSize);
    if (isWorthIt) this.#waiting = this.#waiting.filter((entry) => !leaves.has(entry));
    for (const { seq } of gone) if (seq !== undefined) this.#lowestLeft = Math.min(this.#lowestLeft, seq);
    this.#giveUp(gone, "the queue is full");
  }

  /** Sends full batches, or with `all` whatever is there. */
  #pump(all: boolean): void {
    const lanes = this.#proven && this.#failures === 0 ? LANES : 1; // Q3
    const least = all ? 1 : this.#options.batchSize;
    while (!this.#backingOff && this.#inFlight.size < lanes && this.#waiting.length >= least) {
      const batch =
        this.#waiting.length <= this.#options.batchSize
          ? this.#waiting
          : this.#waiting.splice(0, this.#options.batchSize);
      if (batch === this.#waiting) this.#waiting = [];
      this.#inFlight.add(batch);
      void this.#ship(batch);
    }
  }

  async #ship(batch: Entry[]): Promise<void> {
    const result = await untraced(() => this.#options.sender.send(batch.map(({ span }) => span)));
    if (this.#closed) return;
    this.#inFlight.delete(batch);
    this.#judge(batch, result);
    if (this.#backingOff) return;
    if (this.#drained) {
      this.#pump(true);
      this.#tellWhenEmpty();
    } else {
      this.#pump(false);
      if (this.#waiting.length > 0) this.#schedule(this.#options.delayMs);
    }
  }

  #judge(batch: Entry[], result: SendResult): void {
    switch (result.type) {
      case "accepted":
        this.#proven = true;
        this.#failures = 0;
        this.#settle(batch);
        if (result.rejected > 0) this.#count(result.rejected, `the collector rejected them: ${result.message ?? ""}`);
        return;
      case "refused":
        this.#failures = 0;
        this.#giveUp(batch, `the collector refuses them: ${result.reason}`);
        return;
      case "unavailable":
        this.#waiting = batch.concat(this.#waiting);
        this.#failures += 1;
        this.#warn(`spans wait for the collector: ${result.reason}`, { waiting: this.#waiting.length });
        this.#backOff(result.retryAfterMs);
        this.#drained?.();
        return;
    }
  }

  #backOff(retryAfterMs = 0): void {
    this.#backingOff = true;
    const exponential = Math.min(FIRST_BACKOFF_MS * 2 ** (this.#failures - 1), MAX_BACKOFF_MS);
    const delay = Math.min(Math.max(exponential * (0.75 + Math.random() / 2), retryAfterMs), MAX_BACKOFF_MS);
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#schedule(delay);
  }

  #endBackoff(): void {
    this.#backingOff = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #schedule(delayMs: number): void {
    if (this.#timer !== undefined || this.#closed) return;
    // Made outside the caller's context, which else would live as long as the timer.
    this.#timer = untraced(() =>
      setTimeout(() => {
        this.#endBackoff();
        this.#pump(true);
      }, delayMs),
    );
    this.#timer.unref(); // Q4
  }

  #tellWhenEmpty(): void {
    if (this.#waiting.length === 0 && this.#inFlight.size === 0) this.#drained?.();
  }

  #giveUp(entries: Entry[], why: string): void {
    this.#settle(entries);
    this.#count(entries.length, why);
  }

  #settle(entries: readonly Entry[]): void {
    for (const { watch } of entries) {
      if (!watch) continue;
      watch.left -= 1;
      if (watch.left === 0) watch.settled();
    }
  }

  #count(spans: number, why: string): void {
    this.#dropped += spans;
    this.#options.onDropped?.(spans);
    this.#warn(`spans were given up, ${why}`, { dropped: this.#dropped });
  }

  #warn(message: string, fields: object): void {
    if (this.#options.optional && !this.#proven) return;
    const now = performance.now();
    if (now - this.#warnedAt < WARN_EVERY_MS) return;
    this.#warnedAt = now;
    this.#options.logger?.warn({ ...fields, destination: this.#options.sender.destination }, message);
  }
}
