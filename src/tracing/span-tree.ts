/** Draws traces for a terminal. */
import type { PlainSpan } from "./plain-span.ts";
import * as name from "./semconv.ts";

/**
 * One line per span, indented under its parent, with its duration and what tells it apart; copies of a span are drawn once,
 * spans whose parent is missing are drawn as roots and marked.
 */
export function renderSpanTree(spans: readonly PlainSpan[]): string {
  const byId = new Map(spans.map((span) => [span.spanId, span]));
  const children = new Map<string, PlainSpan[]>();
  const roots: PlainSpan[] = [];
  for (const span of [...byId.values()].sort(inTime)) {
    const { parentSpanId } = span;
    if (parentSpanId === undefined || !byId.has(parentSpanId)) roots.push(span);
    else children.set(parentSpanId, [...(children.get(parentSpanId) ?? []), span]);
  }
  const rows = roots.flatMap((root) => {
    const [own, ...below] = branch(root, children, "", "");
    return own ? [{ ...own, notes: `${own.notes} ${describeRoot(root)}`.trim() }, ...below] : below;
  });
  const width = Math.max(0, ...rows.map(({ label }) => label.length));
  return rows
    .map(({ label, duration, notes }) => `${label.padEnd(width)}  ${duration.padStart(8)}  ${notes}`.trimEnd())
    .join("\n");
}

type Row = { label: string; duration: string; notes: string };

function branch(span: PlainSpan, children: Map<string, PlainSpan[]>, before: string, under: string): Row[] {
  const below = children.get(span.spanId) ?? [];
  const own = { label: `${before}${span.name}`, duration: formatDuration(span), notes: notes(span).join(" ") };
  return [
    own,
    ...below.flatMap((child, index) => {
      const last = index === below.length - 1;
      return branch(child, children, `${under}${last ? "└─ " : "├─ "}`, `${under}${last ? "   " : "│  "}`);
    }),
  ];
}

/** A run's root may hang in its caller's trace, which is elsewhere; any other span should have its parent here. */
function describeRoot({ parentSpanId, kind }: PlainSpan): string {
  if (parentSpanId === undefined) return "";
  return kind === "producer" ? `under span ${parentSpanId} of its caller` : `parent ${parentSpanId} is missing`;
}

function notes({ attributes, status }: PlainSpan): string[] {
  const found: string[] = [];
  const say = (key: string, as: (value: string) => string) => {
    const value = attributes[key];
    if (value !== undefined) found.push(as(String(value)));
  };
  say(name.STEP_ID, (step) => `step=${step}`);
  say(name.HANDOFF_FROM, (agent) => `from=${agent}`);
  say(name.HANDOFF_TO, (agent) => `to=${agent}`);
  if (Number(attributes[name.TASK_ATTEMPT] ?? 1) > 1) say(name.TASK_ATTEMPT, (attempt) => `attempt=${attempt}`);
  if (Number(attributes[name.TASK_DELIVERY] ?? 1) > 1) say(name.TASK_DELIVERY, (delivery) => `delivery=${delivery}`);
  say(name.RUN_OUTCOME, (outcome) => outcome);
  if (attributes[name.INPUT_TOKENS] !== undefined) {
    found.push(`${attributes[name.INPUT_TOKENS]}→${attributes[name.OUTPUT_TOKENS] ?? 0} tokens`);
  }
  if (status.code === "error") found.push(`error=${attributes[name.ERROR_TYPE] ?? status.message ?? "unknown"}`);
  return found;
}

function formatDuration({ start, end }: PlainSpan): string {
  const ms = Number(end - start) / 1e6;
  if (ms === 0) return "0 ms";
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(2)} s`;
}

/** In the order things happened; what sums up a run starts with it but reads best at the end. */
function inTime(a: PlainSpan, b: PlainSpan): number {
  if (isSummary(a) !== isSummary(b)) return isSummary(a) ? 1 : -1;
  const [first, second] = a.start === b.start ? [a.end, b.end] : [a.start, b.start];
  return first === second ? 0 : first < second ? -1 : 1;
}

function isSummary({ attributes }: PlainSpan): boolean {
  return attributes[name.RUN_OUTCOME] !== undefined;
}
