/**
 * How the soak's workflows are shaped, as plain data: the fleet is defined from it, and the checker knows from it what must
 * have happened, so that neither asks the other.
 */

export type StepShape = {
  id: string;
  agent: string;
  after: readonly string[];
  /** Attempts in all. */
  maxAttempts: number;
  /** How long one attempt may take, in milliseconds. */
  timeoutMs?: number;
  /** A template, where the step's input is not that of a chain. */
  input?: string;
};

const step = (id: string, agent: string, after: readonly string[] = [], more: Partial<StepShape> = {}): StepShape => ({
  id,
  agent,
  after,
  maxAttempts: 1,
  ...more,
});

const branches = ["b1", "b2", "b3", "b4"] as const;

/** The steps of each deterministic workflow. */
export const STEPS = {
  /** One after the other. */
  chain: [step("one", "writer"), step("two", "editor", ["one"]), step("three", "critic", ["two"])],
  /** Several turns with tools, then two at once, then a join. */
  diamond: [
    step("plan", "planner"),
    step("left", "writer", ["plan"]),
    step("right", "editor", ["plan"]),
    step("join", "critic", ["left", "right"]),
  ],
  /** Parallel branches that are tried again. */
  fan: [
    step("start", "writer"),
    ...branches.map((id) => step(id, "brittle", ["start"], { maxAttempts: 3 })),
    step("join", "critic", branches),
  ],
  /** Structured output, with a repair turn, and a template. */
  shape: [
    step("form", "former"),
    step("tell", "writer", ["form"], { input: "{{ input.topic }} has {{ steps.form.output.mark }}" }),
  ],
  /** Input and outputs that are too long for a message. */
  bulk: [step("one", "writer"), step("two", "editor", ["one"])],
  /** A step with a time limit of its own. */
  patience: [step("wait", "brittle", [], { maxAttempts: 2, timeoutMs: 1_500 }), step("then", "writer", ["wait"])],
  /** One call: for deadlines and cancels. */
  single: [step("only", "brittle")],
} as const satisfies { [workflow: string]: readonly StepShape[] };

export type StepsName = keyof typeof STEPS;

export type EdgeShape = { to: string; context: "full" | "summary" | "none" };

/** Who may hand over to whom. */
export const EDGES: { readonly [agent: string]: readonly EdgeShape[] } = {
  desk: [
    { to: "expert", context: "full" },
    { to: "solver", context: "none" },
  ],
  expert: [
    { to: "solver", context: "summary" },
    { to: "desk", context: "full" },
  ],
  solver: [{ to: "expert", context: "full" }],
  ping: [{ to: "pong", context: "full" }],
  pong: [{ to: "ping", context: "full" }],
};

/** Each handoff workflow: who begins, who takes part, and how often the run may be handed over. */
export const HANDOFFS = {
  relay: { entry: "desk", agents: ["desk", "expert", "solver"], maxHandoffs: 6 },
  pingpong: { entry: "ping", agents: ["ping", "pong"], maxHandoffs: 3 },
} as const;

export type HandoffName = keyof typeof HANDOFFS;

/** How long the first pause before another attempt at a step is, in milliseconds. */
export const RETRY_DELAY_MS = 400;

/** A workflow whose input has to fit a schema, and one that does not exist. */
export const CHOOSY = "choosy";
export const NOWHERE = "nowhere";
