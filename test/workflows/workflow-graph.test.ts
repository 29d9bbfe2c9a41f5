import { describe, expect, it } from "vitest";
import { renderMermaid } from "../../src/cli/graph-mermaid.ts";
import { renderTree } from "../../src/cli/graph-tree.ts";
import { standingsIn } from "../../src/workflows/graph-status.ts";
import type { RunRecord, StepRecord } from "../../src/workflows/run-record.ts";
import { graphOf } from "../../src/workflows/workflow-graph.ts";

const ORDER = {
  steps: [
    {
      id: "classify",
      agent: "classifier",
      switch: { on: "steps.classify.output", cases: { bug: "fix", flaw: "fix" }, default: "answer" },
    },
    { id: "fix", agent: "engineer", onError: "apologize" },
    { id: "answer", agent: "answer", when: 'input.who != "us"', onError: "continue" },
    { id: "apologize", tool: "send_mail" },
    { id: "report", agent: "writer", after: ["fix", "answer"], needs: "any" },
  ],
};

const LOOPS = {
  steps: [
    {
      id: "revise",
      repeat: { until: "last.score > 0.8", max: 5 },
      steps: [
        { id: "write", agent: "w" },
        { id: "score", agent: "s", after: "write" },
      ],
    },
    {
      id: "each",
      forEach: "input.items",
      concurrency: 3,
      agent: "worker",
      after: "revise",
      compensate: { agent: "undoer" },
    },
    { id: "ask", approval: { who: "boss", choices: ["yes", "no"] }, after: "each" },
    { id: "sleep", wait: { signal: "paid" }, after: "ask" },
    { id: "child", workflow: "billing", after: "sleep" },
  ],
};

describe("a workflow's graph", () => {
  it("shows what comes after what, the ways of a switch, conditions and where errors lead", () => {
    expect(renderMermaid(graphOf(ORDER)).split("\n")).toEqual([
      "flowchart TD",
      '  n1["classify<br/>classifier"]',
      '  n2["fix<br/>engineer"]',
      '  n3["answer<br/>when input.who != #quot;us#quot;<br/>goes on without it"]',
      '  n4[["apologize<br/>tool send_mail"]]',
      '  n5["report<br/>writer<br/>needs any"]',
      '  n1 -->|"bug, flaw"| n2',
      '  n1 -->|"otherwise"| n3',
      '  n2 -.->|"on error"| n4',
      "  n2 --> n5",
      "  n3 --> n5",
    ]);
  });

  it("is a tree on a terminal, in which every step stands once", () => {
    expect(renderTree("order", graphOf(ORDER)).split("\n")).toEqual([
      "order",
      "└─ classify  classifier",
      "   ├─ fix  engineer · if classify is bug, flaw",
      "   │  └─ apologize  tool send_mail · on error of fix",
      '   └─ answer  when input.who != "us" · goes on without it · if classify is otherwise',
      "      └─ report  writer · needs any · after fix, answer",
    ]);
  });

  it("draws groups with what is in them, and every kind of step", () => {
    expect(renderMermaid(graphOf(LOOPS)).split("\n")).toEqual([
      "flowchart TD",
      '  subgraph n1["revise<br/>repeat until last.score #gt; 0.8, at most 5 times"]',
      '    n2["write<br/>w"]',
      '    n3["score<br/>s"]',
      "    n2 --> n3",
      "  end",
      '  n4["each<br/>worker<br/>for each of input.items<br/>3 at once<br/>undone by undoer"]',
      '  n5{{"ask<br/>approval (who: boss, choices: yes or no)"}}',
      '  n6(["sleep<br/>wait (signal: paid)"])',
      '  n7[/"child<br/>workflow billing"/]',
      "  n1 --> n4",
      "  n4 --> n5",
      "  n5 --> n6",
      "  n6 --> n7",
    ]);
    expect(renderTree("loops", graphOf(LOOPS)).split("\n").slice(0, 4)).toEqual([
      "loops",
      "└─ revise  repeat until last.score > 0.8, at most 5 times",
      "   ┆ └─ write  w",
      "   ┆    └─ score  s",
    ]);
  });

  it("draws the handoffs of agents among each other", () => {
    const agents = {
      a: { handoffs: [{ to: "b", description: "For money." }, "c"] },
      b: { handoffs: ["a", "elsewhere"] },
      c: {},
    };
    const graph = graphOf({ entry: "a", agents: ["a", "b", "c"] }, agents);
    expect(renderMermaid(graph)).toContain('n1 -->|"For money."| n2');
    expect(graph.edges.map(({ from, to }) => `${from}-${to}`)).toEqual(["a-b", "a-c", "b-a"]);
    expect(renderTree("team", graph).split("\n")).toEqual([
      "team",
      "└─ a  entry · from b",
      "   ├─ b  from a",
      "   └─ c  from a",
    ]);
  });

  it("draws a chain in the order of its agents, as its steps are called", () => {
    const graph = graphOf({ agents: ["w", "e", "w"] });
    expect(graph.edges).toEqual([
      { from: "w", to: "e", kind: "after" },
      { from: "e", to: "w-2", kind: "after" },
    ]);
  });
});

describe("a run on its graph", () => {
  it("colours every node by what its steps have come to, rounds and items together", () => {
    const graph = graphOf(LOOPS);
    const run = runOf([
      ["revise", "running", "repeat"],
      ["revise/0", "completed", "steps"],
      ["revise/0/write", "completed"],
      ["revise/0/score", "completed"],
      ["revise/1", "running", "steps"],
      ["revise/1/write", "running"],
      ["each", "failed", "forEach"],
      ["each/0", "completed"],
      ["each/1", "failed"],
      ["ask", "skipped"],
    ]);
    expect(Object.fromEntries(standingsIn(run, graph))).toEqual({
      revise: { status: "running", times: 2 },
      "revise/write": { status: "running", times: 2 },
      "revise/score": { status: "completed" },
      each: { status: "failed", times: 2 },
      ask: { status: "skipped" },
      sleep: { status: "pending" },
      child: { status: "pending" },
    });
    const text = renderMermaid(graph, standingsIn(run, graph));
    expect(text).toContain(
      'n4["each<br/>worker<br/>for each of input.items<br/>3 at once<br/>undone by undoer<br/>failed ×2"]',
    );
    expect(text).toMatch(/classDef failed .*\n {2}class n4 failed/);
  });

  it("takes a list that went on without an item for what it came to, and a number for a step where it is one", () => {
    const steps = [
      { id: "each", forEach: "input", agent: "worker", onError: "continue" },
      { id: "parts", forEach: "input", steps: [{ id: "2", agent: "worker" }] },
    ];
    const graph = graphOf({ steps });
    const run = runOf([
      ["each", "completed", "forEach"],
      ["each/0", "failed"],
      ["parts", "completed", "forEach"],
      ["parts/0", "completed", "steps"],
      ["parts/0/2", "completed"],
    ]);
    expect(Object.fromEntries(standingsIn(run, graph))).toEqual({
      each: { status: "completed" },
      parts: { status: "completed" },
      "parts/2": { status: "completed" },
    });
  });

  it("knows the agents of a handoff run by their tasks", () => {
    const graph = graphOf({ entry: "a", agents: ["a", "b"] }, { a: { handoffs: ["b"] } });
    const run = { ...runOf([["h0", "completed"]]), kind: "handoff" as const };
    expect(standingsIn({ ...run, steps: run.steps.map((step) => ({ ...step, agent: "a" })) }, graph).get("a")).toEqual({
      status: "completed",
    });
  });
});

type Row = [id: string, status: StepRecord["status"], group?: NonNullable<StepRecord["group"]>["type"]];

function runOf(steps: Row[]): RunRecord {
  const rows = steps.map(([id, status, type]): StepRecord => {
    return { id, ...(type ? { group: { type, size: 2 } } : { agent: "x" }), status, attempts: 1 };
  });
  return { kind: "deterministic", steps: rows } as unknown as RunRecord;
}
