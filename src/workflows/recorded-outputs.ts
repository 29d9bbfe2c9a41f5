/** What the steps of a run gave, by its journal: also what groups, lists and repetitions did, of which no event has the output. */
import type { RunEvent } from "./run-events.ts";
import type { Graph, Node } from "./step-graph.ts";

/** How an instance of a step ended. */
type Ended =
  | { readonly type: "completed"; readonly value: unknown; readonly exhausted?: true }
  | { readonly type: "failed"; readonly error: { code: string; message: string } }
  | { readonly type: "skipped" };

export type RecordedOutputs = {
  /** What a step that stands in no group has completed with. */
  of(node: Node): { output: unknown; exhausted?: true } | undefined;
  isSkipped(step: string): boolean;
};

/** Reads a whole journal, with its outputs. What was undone, or may have been, is not there any more, nor what it is in. */
export function recordedOutputs(events: readonly RunEvent[]): RecordedOutputs {
  const answers = new Map<string, unknown>();
  const ended = new Map<string, Ended>();
  const sizes = new Map<string, number>();
  const undone = new Set<string>();
  for (const event of events) note(event);
  return {
    of(node) {
      const { id } = node.step;
      const end = ended.get(id);
      if (end?.type !== "completed" || undone.has(id)) return undefined;
      return { output: outputAt(node, id), ...(end.exhausted && { exhausted: true }) };
    },
    isSkipped: (step) => ended.get(step)?.type === "skipped",
  };

  function note({ type, data }: RunEvent): void {
    switch (type) {
      case "task.settled":
        if (data.outcome.type === "completed") answers.set(data.taskId, data.outcome.output);
        break;
      case "step.started":
        if (data.group) sizes.set(data.step, data.group.size);
        // The last iteration that was begun is the last one there was.
        noteIteration(data.step);
        break;
      case "step.completed": {
        const { step, taskId, output, exhausted } = data;
        // What waited for something from outside had no task, and says itself what it gave.
        const value = taskId === undefined ? output : answers.get(taskId);
        ended.set(step, { type: "completed", value, ...(exhausted && { exhausted }) });
        break;
      }
      case "step.failed":
        if (data.continued) {
          const { code, message } = data.error;
          ended.set(data.step, { type: "failed", error: { code, message } });
        }
        break;
      case "step.skipped":
        ended.set(data.step, { type: "skipped" });
        break;
      case "step.reused":
        ended.set(data.step, { type: "completed", value: data.output, ...(data.exhausted && { exhausted: true }) });
        break;
      case "compensation.started":
        undone.add(data.step.split("/", 1)[0] ?? data.step);
        break;
      default:
    }
  }

  function noteIteration(path: string): void {
    const [, whole = "", index] = /^(.*)\/(\d+)$/.exec(path) ?? [];
    if (index !== undefined) sizes.set(`${whole}#`, Number(index));
  }

  function outputAt(node: Node, path: string): unknown {
    const end = ended.get(path);
    // Taken over by the run itself: there are no instances of it.
    if (end?.type === "completed" && end.value !== undefined) return end.value;
    const { step } = node;
    if (step.forEach !== undefined) {
      return Array.from({ length: sizes.get(path) ?? 0 }, (_, index) => itemAt(node, `${path}/${index}`));
    }
    return bodyAt(node, step.repeat ? `${path}/${sizes.get(`${path}#`) ?? 0}` : path);
  }

  function itemAt(node: Node, path: string): unknown {
    const end = ended.get(path);
    return end?.type === "failed" ? { error: end.error } : bodyAt(node, path);
  }

  function bodyAt({ body }: Node, path: string): unknown {
    if (body) return resultAt(body, path);
    const end = ended.get(path);
    return end?.type === "completed" ? end.value : undefined;
  }

  /** As `resultOf` in `step-ends.ts`. */
  function resultAt({ sinks }: Graph, path: string): unknown {
    const given = [...sinks].flatMap((node): [string, unknown][] => {
      const inner = `${path}/${node.step.id}`;
      const end = ended.get(inner);
      if (end?.type === "completed") return [[node.step.id, outputAt(node, inner)]];
      return end?.type === "failed" ? [[node.step.id, { error: end.error }]] : [];
    });
    if (given.length === 0) return null;
    return sinks.size === 1 ? given[0]?.[1] : Object.fromEntries(given);
  }
}
