/**
 * A run on a terminal, drawn over itself as it goes on.
 *
 * Invariants
 * V1  What is on the screen is the frame drawn last, and the cursor stands below it: the next frame begins that many lines up.
 * V2  The cursor comes back, however this ends.
 */
import type { WriteStream } from "node:tty";
import type { LiveEvent } from "../runtime/edges/run-feed.ts";
import type { RunEvent } from "../workflows/run-events.ts";
import { applyEvents, type RunRecord } from "../workflows/run-record.ts";
import { drawRun, type TaskView } from "./live-frame.ts";

export type LiveView = {
  take(event: RunEvent | LiveEvent): void;
  /** Draws the last frame and leaves it there. */
  close(): void;
};

/** Fast enough for a spinner to turn and words to flow. */
const FRAME_MS = 80;
const HIDE_CURSOR = "\u001b[?25l";
const SHOW_CURSOR = "\u001b[?25h";

/** Opens the view; events come in the order of the run, from its first. */
export function openLiveView(terminal: WriteStream): LiveView {
  const tasks = new Map<string, TaskView>();
  let run: RunRecord | undefined;
  let frame = 0;
  let height = 0;
  const showCursor = () => terminal.write(SHOW_CURSOR);
  process.once("exit", showCursor); // V2
  terminal.write(HIDE_CURSOR);
  const timer = setInterval(draw, FRAME_MS);

  return {
    take(event) {
      if (event.n === undefined) takeLive(event);
      else {
        run = applyEvents(run, [event]);
        if (event.type === "task.sent") {
          tasks.set(event.data.taskId, { row: event.data.step ?? event.data.taskId, words: "", tools: [] });
        }
      }
    },
    close() {
      clearInterval(timer);
      for (const task of tasks.values()) task.words = "";
      draw();
      showCursor();
      process.off("exit", showCursor);
    },
  };

  function takeLive({ type, data }: LiveEvent) {
    const task = tasks.get(data.taskId ?? "");
    if (!task) return;
    const callId = String(data.callId);
    const tool = task.tools.find((use) => use.callId === callId);
    if (type === "model.delta") task.words += data.text ?? "";
    else if (type === "model.restarted") task.words = "";
    else if (type === "tool.started") {
      // A new turn of the model follows.
      task.words = "";
      if (!tool) task.tools.push({ callId, tool: String(data.tool), state: "running" });
    } else if (type === "tool.completed" && tool) tool.state = data.failed ? "failed" : "done";
  }

  function draw() {
    if (!run) return;
    frame += 1;
    const lines = drawRun(run, tasks, { columns: terminal.columns || 80, rows: terminal.rows || 24, frame });
    const up = height > 0 ? `\u001b[${height}A` : ""; // V1
    height = lines.length;
    terminal.write(`${up}${lines.map((line) => `\r\u001b[2K${line}\n`).join("")}\u001b[J`);
  }
}
