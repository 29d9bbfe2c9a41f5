/** What reaches the soak's model server: calls of models and of tools, as records of what was seen from outside. */
import type { NumberedReply } from "./answers.ts";
import type { Fault } from "./run-plan.ts";

/** What identifies a call: the same for every repetition of it. The daemon's model puts it into every request. */
export type CallKey = { runId: string; taskId: string; agent: string; turn: number };

/**
 * Who asks. `begunAt` is when, by the clock of the process (milliseconds since the epoch): one that is stopped in the middle of
 * asking is heard when it runs again.
 */
export type Asker = { pid: number; begunAt: number };

/** Stands in the system message of every request, so that the server knows what it is asked for. */
export const KEY_MARK = /<call>(.+)<\/call>/;

export function keyText(key: CallKey & Asker): string {
  return `<call>${JSON.stringify(key)}</call>`;
}

/** One call of a model. */
export type ModelCall = CallKey &
  Asker & {
    /** From 1, over all runs. */
    n: number;
    /** When it came, in milliseconds since the epoch. */
    at: number;
    state: "open" | "answered" | "faulted" | "aborted";
    /** What was to go wrong with it. */
    fault?: Fault | "refused";
    /** How long the answer was to take, in milliseconds. */
    plannedMs: number;
    /** When it was over. */
    endedAt?: number;
    /** What the answer is, where there is one. */
    reply?: NumberedReply;
    /** The numbers of the answers and tool results the conversation showed, ascending. */
    saw: { answers: number[]; tools: number[]; runs: string[] };
  };

/** One execution of a tool. */
export type ToolRunCall = Asker & {
  n: number;
  runId: string;
  taskId: string;
  /** The same for every execution of one call. */
  key: string;
  at: number;
  /** What the tool said. */
  text: string;
};

/** The name a task has in its run's plan: ids of handed-off tasks have a random end. */
export function taskName(taskId: string): string {
  return /^(h\d+)-/.exec(taskId)?.[1] ?? taskId;
}
