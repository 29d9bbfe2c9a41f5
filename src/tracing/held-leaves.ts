/**
 * Leaves of segments that may never be in a journal: kept until the journal knows the segment, or forgotten with it.
 *
 * H1  A leaf of a held segment reaches the queue only by `release`, and never after `discard`, however late it ends.
 * H2  What is kept is bounded, in spans and in segments.
 */
import type { ReadableSpan } from "@opentelemetry/sdk-trace";

/** More than the tasks a daemon has at work times the leaves they make; beyond it the newest are lost. */
const MAX_HELD_SPANS = 10_000;
/** A discarded segment's work is aborted within seconds; this many can be discarded meanwhile. */
const MAX_DISCARDED = 10_000;

export class HeldLeaves {
  readonly #forward: (span: ReadableSpan) => void;
  readonly #held = new Map<string, ReadableSpan[]>();
  readonly #discarded = new Set<string>();
  #count = 0;

  constructor(forward: (span: ReadableSpan) => void) {
    this.#forward = forward;
  }

  /** Takes a leaf, or a span below one, that ended in the segment `segmentId`; without one it is nobody's leaf. */
  ended(span: ReadableSpan, segmentId: string | undefined): void {
    if (segmentId !== undefined && this.#discarded.has(segmentId)) return; // H1
    const held = segmentId === undefined ? undefined : this.#held.get(segmentId);
    if (!held) {
      this.#forward(span);
    } else if (this.#count < MAX_HELD_SPANS) {
      this.#count += 1; // H2
      held.push(span);
    }
  }

  hold(segmentId: string): void {
    // Handed back and come again: what was discarded then does not count now.
    this.#discarded.delete(segmentId);
    if (!this.#held.has(segmentId)) this.#held.set(segmentId, []);
  }

  release(segmentId: string): void {
    for (const span of this.#take(segmentId)) this.#forward(span);
  }

  discard(segmentId: string): void {
    this.#take(segmentId);
    this.#discarded.add(segmentId);
    if (this.#discarded.size <= MAX_DISCARDED) return;
    for (const oldest of this.#discarded) {
      this.#discarded.delete(oldest); // H2
      break;
    }
  }

  #take(segmentId: string): readonly ReadableSpan[] {
    const held = this.#held.get(segmentId) ?? [];
    this.#held.delete(segmentId);
    this.#count -= held.length;
    return held;
  }
}
