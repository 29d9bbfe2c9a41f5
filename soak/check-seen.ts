/** What every recorded reply must have been shown, folded from the replies that were recorded before it. */

import { toolsIn } from "./marks.ts";
import { type RecordedReply, replyKey, turnsOf } from "./recorded.ts";
import { EDGES, STEPS, type StepShape } from "./shapes.ts";
import { eventsOf, type TrackedRun } from "./tracked-run.ts";

/** What a conversation shows; `asked` is what its request shows of answers, and whether it is the run's own request. */
type View = { answers: number[]; tools: number[]; request: boolean; asked: number[] };

/** Compares what each recorded reply was made from with what must have been there. */
export function checkSeen(run: TrackedRun, replies: ReadonlyMap<string, RecordedReply>): string[] {
  const { calls, plan } = run;
  const problems: string[] = [];
  const byNumber = new Map(calls.map((call) => [call.n, call]));
  const views = plan.workflow in STEPS ? viewsOfSteps(run, replies) : viewsOfHandoffs(run, replies);
  for (const [taskId, opening] of views) {
    for (let turn = 1; ; turn += 1) {
      const reply = replies.get(replyKey({ taskId, turn }));
      const saw = reply && byNumber.get(reply.n)?.saw;
      if (!saw) break;
      const own = sayingsOf(run, replies, taskId, turn - 1);
      const expected = {
        answers: sorted([...opening.answers, ...own.answers]),
        tools: sorted([...opening.tools, ...own.tools]),
        runs: opening.request ? [plan.runId] : [],
      };
      if (JSON.stringify(saw) !== JSON.stringify(expected))
        problems.push(
          `${taskId} turn ${turn}: expected reply ${reply.n} to be made from ${JSON.stringify(expected)}, ` +
            `got ${JSON.stringify(saw)}`,
        );
    }
  }
  return problems;
}

/** The tasks of a deterministic run, each with what its input shows. */
function viewsOfSteps(run: TrackedRun, replies: ReadonlyMap<string, RecordedReply>): Map<string, View> {
  const views = new Map<string, View>();
  const outputs = new Map<string, number>();
  const turns = turnsOf(run);
  for (const event of eventsOf(run)) {
    if (event.type === "step.completed") {
      const { step, taskId = "" } = event.data;
      const reply = replies.get(replyKey({ taskId, turn: turns.get(taskId) ?? 0 }));
      if (reply) outputs.set(step, reply.n);
    }
    if (event.type !== "task.sent") continue;
    const { after } = stepOf(run, event.data.step) ?? { after: [] };
    views.set(event.data.taskId, {
      answers: after.map((id) => outputs.get(id) ?? -1),
      tools: [],
      request: true,
      asked: [],
    });
  }
  return views;
}

/** The tasks of a handoff run, each with the conversation it was given. */
function viewsOfHandoffs(run: TrackedRun, replies: ReadonlyMap<string, RecordedReply>): Map<string, View> {
  const views = new Map<string, View>([["h0", { answers: [], tools: [], request: true, asked: [] }]]);
  for (const event of eventsOf(run)) {
    if (event.type !== "agent.handoff") continue;
    const { taskId, from, to, next, usage } = event.data;
    const before = views.get(taskId) ?? { answers: [], tools: [], request: false, asked: [] };
    const turns = usage?.modelCalls ?? 0;
    const said = sayingsOf(run, replies, taskId, turns);
    const handing = replies.get(replyKey({ taskId, turn: turns }))?.n ?? -1;
    switch (EDGES[from]?.find((edge) => edge.to === to)?.context) {
      case "full":
        views.set(next.taskId, {
          ...before,
          answers: [...before.answers, ...said.answers],
          tools: [...before.tools, ...said.tools],
        });
        break;
      case "summary":
        views.set(next.taskId, { ...before, answers: [...before.asked, handing], tools: [] });
        break;
      default:
        // The words that hand over are all there is from now on, also as the request that later edges show.
        views.set(next.taskId, { answers: [handing], tools: [], request: false, asked: [handing] });
    }
  }
  return views;
}

/** What a task itself has said and heard in its first turns. */
function sayingsOf(
  run: TrackedRun,
  replies: ReadonlyMap<string, RecordedReply>,
  taskId: string,
  turns: number,
): Pick<View, "answers" | "tools"> {
  const answers: number[] = [];
  for (let turn = 1; turn <= turns; turn += 1) {
    const reply = replies.get(replyKey({ taskId, turn }));
    if (reply) answers.push(reply.n);
  }
  const tools = (run.tasks.get(taskId) ?? []).flatMap(({ value }) =>
    value.type === "tool" && value.turn <= turns ? toolsIn(value.content) : [],
  );
  return { answers, tools };
}

function stepOf({ plan }: TrackedRun, id: string | undefined): StepShape | undefined {
  const steps: readonly StepShape[] = STEPS[plan.workflow as keyof typeof STEPS] ?? [];
  return steps.find((step) => step.id === id);
}

function sorted(numbers: readonly number[]): number[] {
  return [...new Set(numbers)].sort((a, b) => a - b);
}
