/** Durations, instants and values as people read them. */
import type { RunUsage } from "../workflows/run-record.ts";
import { oneLine } from "./terminal-text.ts";

/** As in `340 ms`, `1.2 s`, `3 min 05 s`, `2 h 10 min`. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 59_950) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  return `${Math.floor(minutes / 1_440)} days`;
}

/** How long from one ISO instant to another, or until now. */
export function durationBetween(from: string, to?: string): string {
  return duration((to === undefined ? Date.now() : Date.parse(to)) - Date.parse(from));
}

/** The local time of day of an ISO instant, with milliseconds. */
export function timeOfDay(iso: string): string {
  const at = new Date(iso);
  const [hours, minutes, seconds] = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two);
  return `${hours}:${minutes}:${seconds}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/** The local date and time of an ISO instant. */
export function dateAndTime(iso: string): string {
  const at = new Date(iso);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${timeOfDay(iso).slice(0, 8)}`;
}

/** As in `120→80 tokens`. */
export function tokens({ inputTokens, outputTokens }: Pick<RunUsage, "inputTokens" | "outputTokens">): string {
  return `${inputTokens}→${outputTokens} tokens`;
}

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"] as const;

/** As in `340 bytes`, `1.2 KiB`, `75 GiB`. */
export function bytes(n: number): string {
  let size = n;
  let unit = 0;
  for (; size >= 1_000 && unit < UNITS.length - 1; unit += 1) size /= 1_024;
  return `${unit === 0 || size >= 100 ? Math.round(size) : Number(size.toFixed(1))} ${UNITS[unit]}`;
}

/** As in `1 model call`, `3 model calls`. */
export function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? "" : "s"}`;
}

/** Any value on one line: text as it is, anything else as JSON. */
export function inline(value: unknown): string {
  return oneLine(typeof value === "string" ? value : (JSON.stringify(value) ?? ""));
}

function two(n: number): string {
  return String(n).padStart(2, "0");
}
