/** What is asked of one run, and what its model will say: all of it decided from the seed before the run begins. */
import { BULK } from "./answers.ts";
import { type Chance, chanceOf } from "./chance.ts";
import { planDeterministic, planHandoffs } from "./plan-tasks.ts";
import { CHOOSY, type HandoffName, NOWHERE, type StepsName } from "./shapes.ts";

/** What goes wrong with a call that would succeed if it were made again. */
export type Fault = "429" | "500" | "503" | "reset" | "cut" | "malformed" | "html" | "streamed error";

/** One turn of a task: what the model says in it. */
export type TurnPlan = {
  says: /** A bulky one is too long for a message. */
    | { type: "answer"; bulky?: true }
    /** Structured output, right or wrong. */
    | { type: "form"; right: boolean }
    /** Tool calls, by topic; what the tool makes of a topic is in the topic. */
    | { type: "tools"; topics: readonly Topic[] }
    | { type: "handoff"; to: string; beside?: "tool" | "other handoff" }
    /** Refused with this status, however often it is asked. */
    | { type: "refusal"; status: 400 | 500 }
    /** No answer, however long it is waited for. */
    | { type: "silence" };
  /** How long the first byte takes, in milliseconds. */
  delayMs: number;
  /** How long each further piece takes, in milliseconds. */
  pieceMs: number;
  /** What happens to the first calls, one each; the ones after them succeed. */
  faults: readonly Fault[];
};

export type Topic = "fine" | "slow" | "fails";

/** How a task ends if nobody interrupts it. */
export type TaskEnd =
  | { type: "completed" }
  | { type: "handoff"; to: string }
  | { type: "failed"; code: string; retryable: boolean };

export type TaskPlan = { agent: string; turns: readonly TurnPlan[]; end: TaskEnd };

type CancelPlan =
  /** Before the request is made. */
  | { when: "before" }
  /** So many milliseconds after it was made. */
  | { when: "after"; ms: number };

type RunKind = StepsName | HandoffName | "deadline" | "abandoned" | "bad input" | "no workflow";

export type RunPlan = {
  runId: string;
  kind: RunKind;
  workflow: string;
  input: { topic: string | number };
  /** By the task's name: `join-1` is the first attempt at step `join`, `h2` the task after two handoffs. */
  tasks: ReadonlyMap<string, TaskPlan>;
  /** How long after the request nothing may start, in milliseconds. */
  notBeforeMs?: number;
  timeoutMs?: number;
  cancel?: CancelPlan;
  /** When the same request is made again, in milliseconds after the first. */
  duplicatesMs: readonly number[];
  /** Whether the request goes through the client; otherwise it is published. */
  byClient: boolean;
  /** Whether the result is to be told. */
  replyTo: boolean;
};

const KINDS: { [kind in RunKind]: number } = {
  chain: 14,
  diamond: 16,
  fan: 15,
  shape: 10,
  bulk: 3,
  patience: 7,
  single: 6,
  relay: 18,
  pingpong: 8,
  deadline: 4,
  abandoned: 4,
  "bad input": 1,
  "no workflow": 1,
};

const FOREVER_MS = 600_000;

/** The plan of run `i` of a soak with this seed. */
export function planRun(seed: number, i: number): RunPlan {
  const chance = chanceOf(seed, "run", i);
  const kind = chance.weighted(KINDS);
  const runId = `${kind.replaceAll(" ", "-")}-${seed}-${i}`;
  // A run that has to wait for more than five seconds is let go of and wakes later.
  const notBeforeMs = chance.yes(0.1) ? chance.int(300, chance.yes(0.4) ? 15_000 : 5_000) : undefined;
  const timeoutMs = kind === "deadline" ? chance.int(1_500, 5_000) : chance.yes(0.1) ? FOREVER_MS : undefined;
  const cancel = planCancel(kind, chance);
  return {
    runId,
    kind,
    ...workOf(kind, chance, runId),
    ...(notBeforeMs !== undefined && { notBeforeMs }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(cancel && { cancel }),
    duplicatesMs: chance.yes(0.15) ? Array.from({ length: chance.int(1, 4) }, () => chance.int(0, 6_000)) : [],
    // The client knows that there is no such workflow, and only it makes room for what is too long.
    byClient: kind === "bulk" || (kind !== "no workflow" && chance.yes(0.2)),
    replyTo: chance.yes(0.3),
  };
}

function workOf(kind: RunKind, chance: Chance, runId: string): Pick<RunPlan, "workflow" | "input" | "tasks"> {
  const input = { topic: `the topic #run:${runId}#${kind === "bulk" ? BULK : ""}` };
  switch (kind) {
    case "relay":
    case "pingpong":
      return { workflow: kind, input, tasks: planHandoffs(kind, chance) };
    case "deadline":
    case "abandoned": {
      const silence: TurnPlan = { says: { type: "silence" }, delayMs: 0, pieceMs: 0, faults: [] };
      const end: TaskEnd = { type: "failed", code: "timeout", retryable: true };
      return { workflow: "single", input, tasks: new Map([["only-1", { agent: "brittle", turns: [silence], end }]]) };
    }
    case "bad input":
      return { workflow: CHOOSY, input: { topic: 7 }, tasks: new Map() };
    case "no workflow":
      return { workflow: NOWHERE, input, tasks: new Map() };
    default:
      return { workflow: kind, input, tasks: planDeterministic(kind, chance) };
  }
}

function planCancel(kind: RunKind, chance: Chance): CancelPlan | undefined {
  // Nothing else ends it.
  if (kind === "abandoned") return { when: "after", ms: chance.int(0, 6_000) };
  if (kind === "bad input" || kind === "no workflow") return undefined;
  if (chance.yes(0.02)) return { when: "before" };
  return chance.yes(0.1) ? { when: "after", ms: chance.int(0, 3_000) } : undefined;
}
