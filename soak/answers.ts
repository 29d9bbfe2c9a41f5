/** What the model says to a call, from the run's plan and the call's number. */
import { answerMark, callId } from "./marks.ts";
import type { TurnPlan } from "./run-plan.ts";

/** More than the broker takes in one message. */
export const BULK = " and more".repeat(150_000);

export type NumberedReply = {
  content: string | null;
  toolCalls: { id: string; name: string; arguments: string }[];
};

/** The answer with number `n`; undefined where the plan has none. `edges` are the agents that may be handed over to. */
export function answerTo(
  says: TurnPlan["says"],
  { agent, n, edges }: { agent: string; n: number; edges: readonly string[] },
): NumberedReply | undefined {
  const mark = answerMark(n);
  switch (says.type) {
    case "answer":
      return { content: `${agent} says ${mark} ${says.bulky ? BULK : "and no more"}`, toolCalls: [] };
    case "form":
      return { content: JSON.stringify(says.right ? { mark, value: n } : { mark: n, note: mark }), toolCalls: [] };
    case "tools":
      return { content: null, toolCalls: says.topics.map((topic, i) => call(n, i, "lookup", { topic })) };
    case "handoff": {
      const transfer = call(n, 0, `transfer_to_${says.to}`, { reason: mark, summary: `so far ${mark}` });
      const other = edges.find((to) => to !== says.to) ?? says.to;
      const more = says.beside === undefined ? [] : [beside(n, says.beside, other)];
      return { content: null, toolCalls: [transfer, ...more] };
    }
    case "refusal":
    case "silence":
      return undefined;
    default:
      return says satisfies never;
  }
}

function beside(n: number, what: "tool" | "other handoff", other: string) {
  return what === "tool"
    ? call(n, 1, "lookup", { topic: "fine" })
    : call(n, 1, `transfer_to_${other}`, { reason: "as well", summary: "as well" });
}

function call(n: number, i: number, name: string, args: object) {
  return { id: callId(n, i), name, arguments: JSON.stringify(args) };
}
