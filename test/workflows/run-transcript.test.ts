import { expect, test } from "vitest";
import type { RunEvent } from "../../src/workflows/run-events.ts";
import { renderTranscript } from "../../src/workflows/run-transcript.ts";
import { eventsOf, USAGE } from "../helpers/run-events.ts";

/** Tasks of these steps in the order they were begun, each settled at once. */
function journalOf(steps: readonly string[]): RunEvent[] {
  const make = eventsOf("run");
  const events = [...make.open()];
  for (const [i, step] of steps.entries()) {
    const taskId = `t${i}`;
    events.push(make.next({ type: "task.sent", data: { taskId, agent: "a", step, attempt: 1, delivery: 1 } }));
    const outcome = { type: "completed", output: `done ${step}`, usage: USAGE } as const;
    events.push(make.next({ type: "task.settled", data: { taskId, agent: "a", outcome } }));
  }
  return events;
}

function orderIn(steps: readonly string[], order: readonly string[]): string[] {
  const told = renderTranscript({ events: journalOf(steps), entriesOf: () => [], order });
  return [...told.matchAll(/^a \((.*)\)$/gm)].map(([, step]) => step as string);
}

test("where an agent has several models, it is told which of them answered", () => {
  const make = eventsOf("run");
  const models = [
    { provider: "openai", model: "large", modelCalls: 1 },
    { provider: "local", model: "small", modelCalls: 2 },
  ];
  const outcome = { type: "completed", output: "done", usage: { ...USAGE, models } } as const;
  const told = renderTranscript({
    events: [
      ...make.open(),
      make.next({ type: "task.sent", data: { taskId: "t", agent: "a", step: "a", attempt: 1, delivery: 1 } }),
      make.next({ type: "task.settled", data: { taskId: "t", agent: "a", outcome } }),
    ],
    entriesOf: () => [],
  });
  expect(told).toContain("a\n  says: done\n  answered by: openai/large (1), local/small (2)\n");
});

test("steps within others stand round by round, in each as the definition has them", () => {
  const order = ["facts", "revise", "revise/write", "revise/score", "end"];
  const begun = [
    "end",
    "revise/2/score",
    "revise/10/write",
    "revise/2/write",
    "revise/1/score",
    "facts",
    "revise/1/write",
  ];
  expect(orderIn(begun, order)).toEqual([
    "facts",
    "revise/1/write",
    "revise/1/score",
    "revise/2/write",
    "revise/2/score",
    "revise/10/write",
    "end",
  ]);
});

test("steps that the definition does not have come after the others, as they began", () => {
  expect(orderIn(["y", "b", "x", "q"], ["q", "b"])).toEqual(["q", "b", "y", "x"]);
  expect(orderIn(["y", "b", "x"], [])).toEqual(["y", "b", "x"]);
});

test("a task that was sent again because its worker was lost is told once", () => {
  const make = eventsOf("run");
  const data = { taskId: "t", agent: "a", step: "a", attempt: 1 };
  const events = [
    ...make.open(),
    make.next({ type: "task.sent", data: { ...data, delivery: 1 } }),
    make.next({ type: "task.sent", data: { ...data, delivery: 2 } }),
  ];
  expect(renderTranscript({ events, entriesOf: () => [] })).toMatch(/\n\na\n\nnot finished$/);
});

test("what is kept of a session's conversation is told, with the words that a model was told", () => {
  const make = eventsOf("run");
  const transcript = [
    { role: "assistant", content: "{", toolCalls: [] },
    { role: "user", content: "That is no JSON." },
    { role: "assistant", content: '{"n":1}' },
  ] as const;
  const outcome = { type: "completed", output: { n: 1 }, usage: USAGE, transcript: [...transcript] } as never;
  const events = [...make.open(), make.next({ type: "task.settled", data: { taskId: "t", agent: "a", outcome } })];
  expect(renderTranscript({ events, entriesOf: () => [] })).toContain(
    'a\n  says: {\n  is told: That is no JSON.\n  says: {"n":1}\n',
  );
});
