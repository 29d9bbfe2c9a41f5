/** The steps of a deterministic run as a reference fold: the fewest rules a right journal cannot break. */
import type { RunEvent } from "../src/workflows/run-events.ts";
import { RETRY_DELAY_MS, type StepShape } from "./shapes.ts";

type StepState = {
  attempt: number;
  is: "not begun" | "asked" | "settled" | "pausing" | "completed" | "failed";
  /** Whether the outcome of the attempt was good, and whether it may be tried again. */
  outcome?: "completed" | "retryable" | "fatal";
  settledAt?: number;
};

/** Takes events in order; what breaks a rule is in `problems`. */
export class StepFold {
  readonly problems: string[] = [];
  readonly #steps: ReadonlyMap<string, StepShape>;
  readonly #states: Map<string, StepState>;
  #over = false;

  constructor(steps: readonly StepShape[]) {
    this.#steps = new Map(steps.map((step) => [step.id, step]));
    this.#states = new Map(steps.map(({ id }) => [id, { attempt: 1, is: "not begun" }]));
  }

  take(event: RunEvent): void {
    switch (event.type) {
      case "step.started":
        this.#started(event.data.step);
        break;
      case "task.sent":
        if (event.data.delivery === 1) this.#sent(event.data.step, event.data.taskId, event.at);
        break;
      case "task.settled":
        this.#settled(event);
        break;
      case "step.retrying":
        this.#retrying(event.data.step, event.data.attempt);
        break;
      case "step.completed":
        this.#move(event.data.step, "settled", "completed", "completed");
        break;
      case "step.failed":
        this.#failed(event.data.step);
        break;
      case "run.cancelling":
        this.#over = true;
        break;
      case "run.completed":
        for (const [id, { is }] of this.#states)
          if (is !== "completed") this.#say(id, `run.completed, and it is ${is}`);
        break;
      case "run.failed":
        if (event.data.error.code === "timeout") break;
        if (![...this.#states.values()].some(({ is }) => is === "failed"))
          this.problems.push("run.failed, and no step has");
        break;
      default:
    }
  }

  #started(id: string): void {
    for (const before of this.#steps.get(id)?.after ?? []) {
      const { is } = this.#state(before);
      if (is !== "completed") this.#say(id, `started while ${before} is ${is}`);
    }
    if (this.#state(id).is !== "not begun") this.#say(id, "started twice");
    if (this.#over) this.#say(id, "started while the run is being cancelled");
  }

  #sent(id: string | undefined, taskId: string, at: string): void {
    if (id === undefined) return void this.problems.push(`${taskId}: sent for no step`);
    const state = this.#state(id);
    if (taskId !== `${id}-${state.attempt}`) this.#say(id, `expected task ${id}-${state.attempt}, got ${taskId}`);
    if (state.is !== "not begun" && state.is !== "pausing")
      this.#say(id, `attempt ${state.attempt} sent when ${state.is}`);
    // The pause is spread, but never shorter than half.
    const pauseEnds = (state.settledAt ?? Number.NEGATIVE_INFINITY) + RETRY_DELAY_MS / 2;
    if (Date.parse(at) < pauseEnds) this.#say(id, `attempt ${state.attempt} sent before its pause was over`);
    state.is = "asked";
  }

  #settled({ at, data: { taskId, outcome } }: Extract<RunEvent, { type: "task.settled" }>): void {
    const id = taskId.slice(0, taskId.lastIndexOf("-"));
    const state = this.#state(id);
    if (state.is !== "asked") this.#say(id, `an outcome when ${state.is}`);
    state.is = "settled";
    state.settledAt = Date.parse(at);
    if (outcome.type === "completed") state.outcome = "completed";
    else state.outcome = outcome.error.retryable === false ? "fatal" : "retryable";
  }

  #retrying(id: string, attempt: number): void {
    const state = this.#state(id);
    if (attempt !== state.attempt + 1) this.#say(id, `expected attempt ${state.attempt + 1}, got ${attempt}`);
    if (attempt > (this.#steps.get(id)?.maxAttempts ?? 1)) this.#say(id, `one attempt too many: ${attempt}`);
    this.#move(id, "settled", "pausing", "retryable");
    state.attempt = attempt;
  }

  #failed(id: string): void {
    const state = this.#state(id);
    const isLast = state.attempt === (this.#steps.get(id)?.maxAttempts ?? 1);
    if (state.outcome === "retryable" && !isLast) this.#say(id, `given up at attempt ${state.attempt}`);
    this.#move(id, "settled", "failed", state.outcome === "fatal" ? "fatal" : "retryable");
  }

  #move(id: string, from: StepState["is"], to: StepState["is"], outcome: StepState["outcome"]): void {
    const state = this.#state(id);
    if (state.is !== from || state.outcome !== outcome) this.#say(id, `${to} when ${state.is} (${state.outcome})`);
    state.is = to;
  }

  #state(id: string): StepState {
    const state = this.#states.get(id);
    if (state) return state;
    this.#say(id, "there is no such step");
    return { attempt: 1, is: "not begun" };
  }

  #say(id: string, problem: string): void {
    this.problems.push(`step ${id}: ${problem}`);
  }
}
