/** The agents and workflows that scenarios run: both kinds, with parallel branches, several turns, tools and handoffs. */
import { z } from "zod";
import type { Agent } from "../../src/actors/agent.ts";
import { defineAgent } from "../../src/actors/define-agent.ts";
import { defineTool } from "../../src/actors/define-tool.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import type { DeterministicDefinition, WorkflowDefinition } from "../../src/workflows/definition.ts";
import { LONG } from "./long-tests.ts";

const lookup = defineTool({
  name: "lookup",
  description: "Looks a topic up",
  parameters: z.object({ topic: z.string() }),
  execute: ({ topic }) => `about ${topic}`,
});

/** As long as others wait before they take a daemon for dead, and some. */
export const GRIND_MS = 3_500;

const grind = defineTool({
  name: "lookup",
  description: "Looks a topic up the hard way: nothing else runs meanwhile",
  parameters: z.object({ topic: z.string() }),
  execute({ topic }) {
    for (const until = performance.now() + GRIND_MS; performance.now() < until; );
    return `about ${topic}`;
  },
});

const explode = defineTool({
  name: "explode",
  description: "Takes its process down at once",
  parameters: z.object({}),
  execute: () => process.kill(process.pid, "SIGKILL"),
});

const common = { instructions: "Answer with your number.", model: "numbered", provider: "numbered" };
const [planner, left, right, joiner] = [
  defineAgent({ ...common, name: "planner", tools: [lookup] }),
  defineAgent({ ...common, name: "left" }),
  defineAgent({ ...common, name: "right" }),
  defineAgent({ ...common, name: "joiner" }),
];
const grinder = defineAgent({ ...common, name: "grinder", tools: [grind] });
const bomber = defineAgent({ ...common, name: "bomber", tools: [explode] });
const solver = defineAgent({ ...common, name: "solver" });
const expert = defineAgent({ ...common, name: "expert", handoffs: [solver] });
const triage = defineAgent({ ...common, name: "triage", handoffs: [expert] });

export const numberedAgents: Agent[] = [planner, left, right, joiner, triage, expert, solver, grinder, bomber];

/** planner (three turns, three tool calls) → left and right at once → joiner. */
const diamond = defineWorkflow({
  name: "diamond",
  steps: [
    { id: "plan", agent: planner },
    { id: "left", agent: left, after: "plan" },
    { id: "right", agent: right, after: "plan" },
    { id: "join", agent: joiner, after: ["left", "right"] },
  ],
});

/** triage → expert → solver. */
const relay = defineWorkflow({ name: "relay", entry: triage, agents: [triage, expert, solver] });

/** One agent, one call. */
const single = defineWorkflow({ name: "single", agents: [left] });

/** Three calls of a tool that blocks its process. */
const grinding = defineWorkflow({ name: "grinding", agents: [grinder] });

/** Whatever its model calls takes the process down. */
const bomb = defineWorkflow({ name: "bomb", agents: [bomber] });

/** A second try two seconds after the first one failed. */
const stubborn = defineWorkflow({
  name: "stubborn",
  steps: [{ id: "try", agent: left, retry: { maxAttempts: 2, backoff: "fixed", delayMs: 2_000 } }],
});

/** A check that leads to one of two ways, beside a step whose error is handled, and a sum of what came of it all. */
const branching = defineWorkflow({
  name: "branching",
  steps: [
    {
      id: "check",
      agent: left,
      switch: { on: "steps.check.output", cases: { valid: "valid", invalid: "invalid" } },
    },
    { id: "valid", agent: right },
    { id: "invalid", agent: right },
    { id: "risky", agent: left, after: "check", when: "steps.check.output == 'valid'", onError: "rescue" },
    { id: "rescue", agent: joiner, input: "{{ steps.risky.error }}" },
    {
      id: "sum",
      agent: joiner,
      after: ["valid", "invalid", "risky"],
      needs: "any",
      input: "valid {{ steps.valid.status }}, invalid {{ steps.invalid.status }}, risky {{ steps.risky.status }}",
    },
  ],
});

/** Two steps for each of the words of a plan, three words at once, then one step until it says `good`, and a sum. */
export const grouping = defineWorkflow({
  name: "grouping",
  steps: [
    { id: "plan", agent: left },
    {
      id: "each",
      after: "plan",
      forEach: "steps.plan.output.split(' ')",
      concurrency: 3,
      steps: [
        {
          id: "check",
          agent: left,
          input: "{{ item }} {{ index }}",
          retry: { maxAttempts: 2, backoff: "fixed", delayMs: 200 },
        },
        {
          id: "write",
          agent: right,
          after: "check",
          input: "{{ item }} {{ steps.check.output }}",
          onError: "continue",
        },
      ],
    },
    {
      id: "refine",
      after: "each",
      repeat: { until: "steps.judge.output == 'good'", max: 6 },
      steps: [
        { id: "draft", agent: right, input: "{{ index }} {{ last }}" },
        { id: "judge", agent: joiner, after: "draft" },
      ],
    },
    { id: "sum", agent: joiner, after: "refine", input: "{{ steps.each.output }} {{ steps.refine.output }}" },
  ],
}) as DeterministicDefinition;

/** One step for each item of its input, and one that is told how many there were. */
const listing = defineWorkflow({
  name: "listing",
  steps: [
    { id: "each", agent: left, forEach: "input.items" },
    { id: "count", agent: joiner, after: "each", input: "{{ steps.each.output.size() }}" },
  ],
});

/** Two steps of which one fails and takes the other along, and a step for what came of it. */
const hasty = defineWorkflow({
  name: "hasty",
  steps: [
    {
      id: "both",
      onError: "continue",
      steps: [
        { id: "slow", agent: left },
        { id: "failing", agent: right },
      ],
    },
    { id: "after", agent: joiner, after: "both", needs: "always", input: "{{ steps.both.error.message }}" },
  ],
});

const giveBack = { agent: solver, input: "give {{ output }} back: {{ error.code }}" };

/** Three bookings, the last two at once, each of which is given back when the payment fails; somebody is told then. */
const trip = defineWorkflow({
  name: "trip",
  steps: [
    { id: "flight", agent: left, compensate: giveBack },
    { id: "hotel", agent: right, after: "flight", compensate: giveBack },
    {
      id: "car",
      agent: left,
      after: "flight",
      compensate: { ...giveBack, retry: { maxAttempts: 3, backoff: "fixed", delayMs: 300 } },
    },
    { id: "card", agent: joiner, after: ["hotel", "car"] },
  ],
  onFailure: [{ id: "tell", agent: planner, input: "{{ error.code }}" }],
  // Into the log of the process that calls it.
  onError: ({ runId, error }) => process.stdout.write(`onError ${runId} ${error.code}\n`),
});

const numberedWorkflows: WorkflowDefinition[] = [
  diamond,
  relay,
  single,
  stubborn,
  grinding,
  bomb,
  branching,
  grouping,
  listing,
  hasty,
  trip,
];

/** How many steps the long workflows have: one agent after the other, one call each. Made only for those who name them. */
export const LONG_STEPS: { readonly [workflow: string]: number } = {
  long: 600,
  marathon: LONG ? 10_000 : 2_500,
};

/** The workflows with these names, or all but the long ones. */
export function numberedWorkflowsNamed(names: readonly string[] | undefined): WorkflowDefinition[] {
  if (!names) return numberedWorkflows;
  const long = Object.entries(LONG_STEPS).filter(([name]) => names.includes(name));
  const made = long.map(([name, length]) => defineWorkflow({ name, agents: Array.from({ length }, () => left) }));
  return [...numberedWorkflows.filter(({ name }) => names.includes(name)), ...made];
}
