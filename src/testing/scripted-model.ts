/**
 * A model that follows a script: one entry for each call that a test expects.
 *
 * 1. A call takes the next entry of its script the moment it is made, in the order of calls.
 * 2. Nothing is random and nothing is timed unless an entry asks for it.
 * 3. A call without an entry fails at once, for good, and is remembered for `assertComplete`.
 */
import type { Model, ModelCallContext, ModelReply, ModelRequest } from "../actors/model.ts";
import { ModelError, TroupeError } from "../errors.ts";
import { sleep } from "../runtime/models/sleep.ts";
import { type ScriptedReply, speak } from "./replies.ts";

/** One expected call: what to answer, or a function that looks at the request and says. */
export type ScriptEntry =
  | ScriptedReply
  | ModelReply
  | ((request: ModelRequest, context: ModelCallContext) => ScriptAnswer | Promise<ScriptAnswer>);

export type ScriptAnswer = ScriptedReply | ModelReply;

/** A call that was made. */
export type RecordedCall = { request: ModelRequest; context: ModelCallContext };

export type ScriptedModelOptions = {
  /** How long each reply takes, in milliseconds, where its entry does not say. @default 0 */
  delayMs?: number;
  /** Waits; replace it to control time. */
  sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
};

type Script = { title: string; entries: readonly ScriptEntry[]; used: number };

/** A model for tests: answers each call with the next entry of its script. */
export class ScriptedModel implements Model {
  readonly provider = "scripted";
  /** Every call so far, in order. */
  readonly calls: RecordedCall[] = [];
  readonly #script: Script | undefined;
  readonly #byAgent = new Map<string, Script>();
  readonly #unexpected: string[] = [];
  readonly #options: ScriptedModelOptions;

  constructor(entries: readonly ScriptEntry[], options: ScriptedModelOptions = {}) {
    this.#script = { title: "script", entries, used: 0 };
    this.#options = options;
  }

  /** A model with a script for each agent, for agents that run at the same time. */
  static byAgent(
    scripts: { [agent: string]: readonly ScriptEntry[] },
    options: ScriptedModelOptions = {},
  ): ScriptedModel {
    const model = new ScriptedModel([], options);
    for (const [agent, entries] of Object.entries(scripts)) {
      model.#byAgent.set(agent, { title: `script of ${agent}`, entries, used: 0 });
    }
    return model;
  }

  async call(request: ModelRequest, context: ModelCallContext): Promise<ModelReply> {
    const n = this.calls.push({ request, context });
    const entry = this.#next(context.agent);
    if (entry === undefined) {
      const what = `call ${n} by ${context.agent}, turn ${context.turn}, after ${lastWords(request)}`;
      this.#unexpected.push(what); // I3
      throw new ModelError("script_ended", `ScriptedModel: expected no further call, got ${what}`, {
        retryable: false,
      });
    }
    const answer = typeof entry === "function" ? await entry(request, context) : entry;
    if ("finishReason" in answer) return answer;
    const { delayMs = 0 } = this.#options;
    const speech = { model: "scripted-model", id: String(n), delayMs, sleep: this.#options.sleep ?? sleep };
    return speak(answer, request, context, speech);
  }

  /** Throws when entries are left over or calls came that no entry expected. */
  assertComplete(): void {
    const scripts = [...(this.#script ? [this.#script] : []), ...this.#byAgent.values()];
    const left = scripts.flatMap(({ title, entries, used }) =>
      entries
        .slice(used)
        .map((entry, i) => `  never used: entry ${used + i + 1} of the ${title}, ${describeEntry(entry)}`),
    );
    const extra = this.#unexpected.map((what) => `  not expected: ${what}`);
    if (left.length + extra.length === 0) return;
    const expected = scripts.reduce((sum, { entries }) => sum + entries.length, 0);
    const account = [`ScriptedModel: expected ${expected} calls, got ${this.calls.length}`, ...left, ...extra];
    throw new TroupeError("script_incomplete", account.join("\n"));
  }

  #next(agent: string): ScriptEntry | undefined {
    const script = this.#byAgent.get(agent) ?? this.#script;
    return script?.entries[script.used] === undefined ? undefined : script.entries[script.used++]; // I1
  }
}

function lastWords({ messages }: ModelRequest): string {
  const last = messages.at(-1);
  return last ? `${last.role} ${quote(last.content ?? "(tool calls)")}` : "no message";
}

function describeEntry(entry: ScriptEntry): string {
  if (typeof entry === "function") return `the function ${entry.name || "(without a name)"}`;
  if ("fail" in entry) return `fail(${entry.fail.message})`;
  const calls = "toolCalls" in entry ? entry.toolCalls.map(({ name }) => name) : entry.calls.map(({ name }) => name);
  const text = "toolCalls" in entry ? entry.content : entry.text;
  return calls.length > 0 ? `a call of ${calls.join(", ")}` : `say(${quote(text ?? "")})`;
}

function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
