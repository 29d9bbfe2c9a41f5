import { PassThrough } from "node:stream";
import type { WriteStream } from "node:tty";
import { expect, test } from "vitest";
import { openLiveView } from "../../src/cli/live-view.ts";
import type { LiveEvent } from "../../src/runtime/edges/run-feed.ts";
import type { RunEvent, RunEventBody } from "../../src/workflows/run-events.ts";
import { until } from "../helpers/until.ts";

/** A terminal as far as the view uses one: it shows what would be on the screen. */
function terminal(columns = 60, rows = 24) {
  const lines: string[] = [""];
  let row = 0;
  let cursorIsHidden = false;
  const stream = new PassThrough();
  stream.setEncoding("utf8").on("data", (text: string) => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: terminals are driven by them
    for (const part of text.match(/\u001b\[\??\d*[A-Za-z]|[\n\r]|[^\u001b\n\r]+/g) ?? []) {
      if (part === "\u001b[?25l") cursorIsHidden = true;
      else if (part === "\u001b[?25h") cursorIsHidden = false;
      else if (part === "\u001b[2K") lines[row] = "";
      else if (part === "\u001b[J") lines.splice(row, Number.POSITIVE_INFINITY, "");
      else if (part.endsWith("A")) row -= Number(part.slice(2, -1));
      else if (part === "\n") lines[++row] ??= "";
      else if (part !== "\r" && !part.startsWith("\u001b")) lines[row] += part;
    }
  });
  const asTerminal = Object.assign(stream, { columns, rows }) as unknown as WriteStream;
  return { stream: asTerminal, screen: () => lines.join("\n"), cursorIsHidden: () => cursorIsHidden };
}

/** Events of one run in their order. */
function storyteller() {
  let n = 0;
  return (body: RunEventBody): RunEvent => {
    n += 1;
    const at = new Date(Date.UTC(2026, 0, 1, 12, 0, 0, n * 100)).toISOString();
    return { v: 1, id: String(n), runId: "r1", n, at, epoch: 1, ...body };
  };
}

const trace = { traceId: "0".repeat(32), sampled: true };
const usage = { inputTokens: 12, outputTokens: 7, modelCalls: 1 };

function live(type: string, data: LiveEvent["data"]): LiveEvent {
  return { v: 1, type, runId: "r1", data };
}

test("a run is drawn over itself: steps, words as they come, and what is left at the end", async () => {
  const { stream, screen, cursorIsHidden } = terminal();
  const event = storyteller();
  const view = openLiveView(stream);
  view.take(
    event({
      type: "run.accepted",
      data: { input: "tea", workflow: "article", kind: "deterministic", steps: 2, trace },
    }),
  );
  view.take(
    event({ type: "task.sent", data: { taskId: "t1", agent: "writer", step: "write", attempt: 1, delivery: 1 } }),
  );
  view.take(live("model.delta", { taskId: "t1", text: "Tea is \u001b[2Ja" }));
  view.take(live("model.delta", { taskId: "t1", text: " drink." }));
  await until("its words are on the screen", () => screen().includes("│ Tea is a drink."));
  expect(screen()).toMatch(/^. article {2}running {2}0\/2 .*r1\n {2}. write \(writer\) /);
  expect(cursorIsHidden()).toBe(true);

  view.take(
    event({
      type: "task.settled",
      data: { taskId: "t1", agent: "writer", outcome: { type: "completed", output: "x", usage } },
    }),
  );
  view.take(event({ type: "step.completed", data: { step: "write", taskId: "t1" } }));
  view.take(event({ type: "run.completed", data: { output: "x" } }));
  view.close();
  await until("the last frame is there", () => screen().includes("completed"));
  expect(screen()).toBe(
    ["✔ article  completed  1/2  400 ms  12→7 tokens  r1", "  ✔ write (writer)    200 ms", ""].join("\n"),
  );
  expect(cursorIsHidden()).toBe(false);
});

test("handoffs and tools stand under the agent they belong to", async () => {
  const { stream, screen } = terminal();
  const event = storyteller();
  const view = openLiveView(stream);
  view.take(event({ type: "run.accepted", data: { input: "help", workflow: "support", kind: "handoff", trace } }));
  view.take(event({ type: "task.sent", data: { taskId: "h0", agent: "triage", attempt: 1, delivery: 1 } }));
  const handoff = {
    taskId: "h0",
    from: "triage",
    to: "billing",
    reason: "money",
    transcript: [],
    next: { taskId: "h1", forwarded: true },
  };
  view.take(event({ type: "agent.handoff", data: handoff }));
  view.take(event({ type: "task.sent", data: { taskId: "h1", agent: "billing", attempt: 1, delivery: 1 } }));
  view.take(live("tool.started", { taskId: "h1", callId: "c1", tool: "lookup" }));
  view.close();
  await until("the frame is there", () => screen().includes("lookup"));
  const shown = screen()
    .split("\n")
    .map((line) => line.replace(/\d.*$/, "").trimEnd());
  expect(shown.slice(1)).toEqual([
    "  ✔ triage",
    "      → billing  money",
    expect.stringMatching(/^ {2}. billing$/),
    "      ⚙ lookup()",
    "",
  ]);
});

test("nothing is wider or taller than the terminal", async () => {
  const { stream, screen } = terminal(30, 6);
  const event = storyteller();
  const view = openLiveView(stream);
  view.take(
    event({ type: "run.accepted", data: { input: "x", workflow: "wide", kind: "deterministic", steps: 9, trace } }),
  );
  for (let step = 1; step <= 9; step += 1) {
    const data = {
      taskId: `t${step}`,
      agent: `agent-with-a-long-name-${step}`,
      step: `step-${step}`,
      attempt: 1,
      delivery: 1,
    };
    view.take(event({ type: "task.sent", data }));
  }
  view.close();
  await until("the frame is there", () => screen().includes("lines above"));
  const lines = screen().split("\n");
  expect(lines.length).toBeLessThanOrEqual(6);
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(29);
  expect(screen()).toContain("step-9");
});

test("steps that were skipped, and one without which the run went on, have a line each", async () => {
  const { stream, screen } = terminal();
  const event = storyteller();
  const view = openLiveView(stream);
  const error = { code: "declined", message: "no money" };
  view.take(
    event({ type: "run.accepted", data: { input: "tea", workflow: "order", kind: "deterministic", steps: 3, trace } }),
  );
  view.take(event({ type: "step.started", data: { step: "charge", agent: "cashier" } }));
  view.take(event({ type: "step.failed", data: { step: "charge", taskId: "charge-1", error, continued: true } }));
  view.take(event({ type: "step.skipped", data: { step: "ship", agent: "x", reason: "needs all: charge failed" } }));
  view.close();
  await until("the last frame", () => screen().includes("skipped"));
  expect(screen()).toMatch(/✘ charge \(cashier\) .*no money {2}the run goes on/);
  expect(screen()).toMatch(/– ship \(x\) +skipped: needs all: charge…/);
  expect(screen()).toContain("2/3");
});
