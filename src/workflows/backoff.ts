/** How long a failed step waits before it is tried again. */
import type { RetryPolicy } from "./definition.ts";

/**
 * The delay before the attempt after `attempt`, in milliseconds; an exponential one is spread between half and all of it, by a
 * hash of `seed`, because a fold has to find the same.
 */
export function backoff({ backoff, delayMs, maxDelayMs }: RetryPolicy, attempt: number, seed: string): number {
  if (backoff === "fixed") return delayMs;
  const full = Math.min(delayMs * 2 ** (attempt - 1), maxDelayMs);
  return Math.round(full * (0.5 + 0.5 * unitHash(seed)));
}

/** FNV-1a, scaled to 0..1. */
function unitHash(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0) / 0xffffffff;
}
