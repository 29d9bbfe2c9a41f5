/** What the model says in each task of a run: turns, tools, handoffs, failures. */
import type { Chance } from "./chance.ts";
import type { Fault, TaskEnd, TaskPlan, Topic, TurnPlan } from "./run-plan.ts";
import { EDGES, HANDOFFS, type HandoffName, STEPS, type StepShape, type StepsName } from "./shapes.ts";

const FAULTS: { [fault in Fault]: number } = {
  "429": 2,
  "500": 2,
  "503": 2,
  reset: 2,
  cut: 2,
  malformed: 1,
  html: 1,
  "streamed error": 1,
};
const TOPICS: { [topic in Topic]: number } = { fine: 6, slow: 1, fails: 2 };

const COMPLETED: TaskEnd = { type: "completed" };
const UNAVAILABLE: TaskEnd = { type: "failed", code: "provider_unavailable", retryable: true };
const REFUSED: TaskEnd = { type: "failed", code: "bad_request", retryable: false };
const TIMED_OUT: TaskEnd = { type: "failed", code: "timeout", retryable: true };

/** The tasks of a deterministic workflow, by name. */
export function planDeterministic(workflow: StepsName, chance: Chance): Map<string, TaskPlan> {
  const tasks = new Map<string, TaskPlan>();
  for (const step of STEPS[workflow] as readonly StepShape[]) {
    for (let attempt = 1; attempt <= step.maxAttempts; attempt += 1) {
      const planned = planAttempt(step, attempt, chance);
      tasks.set(`${step.id}-${attempt}`, workflow === "bulk" ? madeBulky(planned) : planned);
    }
  }
  return tasks;
}

function madeBulky({ turns, ...task }: TaskPlan): TaskPlan {
  const bulky = (says: TurnPlan["says"]) => (says.type === "answer" ? { ...says, bulky: true as const } : says);
  return { ...task, turns: turns.map((turn) => ({ ...turn, says: bulky(turn.says) })) };
}

function planAttempt(step: StepShape, attempt: number, chance: Chance): TaskPlan {
  const { agent, maxAttempts, timeoutMs } = step;
  const plan = (turns: TurnPlan[], end: TaskEnd): TaskPlan => ({ agent, turns, end });
  if (timeoutMs !== undefined && chance.yes(attempt === 1 ? 0.5 : 0.1)) {
    return plan([turn({ type: "silence" }, chance, { faults: 0 })], TIMED_OUT);
  }
  if (maxAttempts > 1 && chance.yes(attempt === 1 ? 0.25 : 0.2)) {
    return plan([turn({ type: "refusal", status: 500 }, chance, { faults: 0 })], UNAVAILABLE);
  }
  if (chance.yes(0.01)) return plan([turn({ type: "refusal", status: 400 }, chance, { faults: 0 })], REFUSED);
  switch (agent) {
    case "planner":
      return plan([...toolTurns(chance, 4), turn({ type: "answer" }, chance)], COMPLETED);
    case "former":
      return planForm(agent, chance);
    case "brittle":
      return plan([turn({ type: "answer" }, chance, { faults: 1, isQuick: timeoutMs !== undefined })], COMPLETED);
    default:
      return plan([turn({ type: "answer" }, chance)], COMPLETED);
  }
}

function planForm(agent: string, chance: Chance): TaskPlan {
  const first = chance.yes(0.6);
  const turns = [turn({ type: "form", right: first }, chance)];
  if (first) return { agent, turns, end: COMPLETED };
  const second = chance.yes(0.85);
  turns.push(turn({ type: "form", right: second }, chance));
  return {
    agent,
    turns,
    end: second ? COMPLETED : { type: "failed", code: "invalid_output", retryable: true },
  };
}

/** The tasks of a handoff workflow, by name. */
export function planHandoffs(workflow: HandoffName, chance: Chance): Map<string, TaskPlan> {
  const { entry, maxHandoffs } = HANDOFFS[workflow];
  const tasks = new Map<string, TaskPlan>();
  // Ping and pong always go to the limit; the others stay below it.
  const hops = workflow === "pingpong" ? maxHandoffs : chance.int(0, maxHandoffs - 2);
  let agent: string = entry;
  for (let hop = 0; hop < hops; hop += 1) {
    const to = nextAgent(agent, chance);
    const beside = chance.weighted({ nothing: 4, tool: 1, "other handoff": 1 });
    const says = { type: "handoff", to, ...(beside !== "nothing" && { beside }) } as const;
    tasks.set(`h${hop}`, {
      agent,
      turns: [...toolTurns(chance, 1, 0.4), turn(says, chance)],
      end: { type: "handoff", to },
    });
    agent = to;
  }
  tasks.set(`h${hops}`, workflow === "pingpong" ? planLimit(agent, chance) : planLast(agent, chance));
  return tasks;
}

function planLast(agent: string, chance: Chance): TaskPlan {
  return { agent, turns: [...toolTurns(chance, 2, 0.5), turn({ type: "answer" }, chance)], end: COMPLETED };
}

/** Tries to hand over where the limit is reached, is told, and answers, or will not. */
function planLimit(agent: string, chance: Chance): TaskPlan {
  const says = { type: "handoff", to: nextAgent(agent, chance) } as const;
  const insists = chance.yes(0.2);
  return {
    agent,
    turns: [turn(says, chance), turn(insists ? says : { type: "answer" }, chance)],
    end: insists ? { type: "failed", code: "handoff_limit", retryable: false } : COMPLETED,
  };
}

function nextAgent(agent: string, chance: Chance): string {
  const [first, ...more] = EDGES[agent] ?? [];
  if (!first) throw new Error(`${agent} hands over to nobody`);
  return chance.pick([first, ...more]).to;
}

function toolTurns(chance: Chance, most: number, probability = 1): TurnPlan[] {
  if (!chance.yes(probability)) return [];
  return Array.from({ length: chance.int(1, most) }, () => {
    const topics = Array.from({ length: chance.int(1, 3) }, () => chance.weighted(TOPICS));
    return turn({ type: "tools", topics }, chance);
  });
}

function turn(
  says: TurnPlan["says"],
  chance: Chance,
  { faults: most = 2, isQuick = false }: { faults?: number; isQuick?: boolean } = {},
): TurnPlan {
  const isSlow = !isQuick && chance.yes(0.05);
  const faults = chance.yes(0.12) ? chance.int(1, 2) : 0;
  return {
    says,
    delayMs: isSlow ? chance.int(1_000, 3_000) : chance.int(30, 250),
    pieceMs: !isQuick && chance.yes(0.05) ? chance.int(20, 150) : 0,
    faults: Array.from({ length: Math.min(faults, most) }, () => chance.weighted(FAULTS)),
  };
}
