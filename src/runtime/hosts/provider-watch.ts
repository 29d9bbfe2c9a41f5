/** Trips agents none of whose providers is there, and lets them go on once one is. */
import type { Logger } from "pino";
import type { Agent } from "../../actors/agent.ts";
import { modelsOf } from "../../actors/model-choices.ts";
import type { ProviderGate } from "../models/provider-gate.ts";
import type { ModelOf } from "../models/providers.ts";

/** A provider that is not asked, and what it last failed with. */
export type ProviderDown = { provider: string; reason: string };

/** Where a provider stands, as one daemon sees it. */
export type ProviderStanding = {
  name: string;
  down: boolean;
  /** Calls that wait for its limits. */
  waiting: number;
};

export type ProviderWatchOptions = {
  modelFor: ModelOf;
  /** Tells an agent's actor. */
  tell(agent: Agent, event: { type: "trip" | "resume" }): void;
  logger: Pick<Logger, "warn" | "info">;
};

export type ProviderWatch = {
  /** Begins with an agent that has started; gives back what ends it. */
  watch(agent: Agent): () => void;
  /** The agents that are tripped, by name. */
  tripped(): string[];
  down(): readonly ProviderDown[];
  /** The providers of all agents. */
  providers(): ProviderStanding[];
  stop(): void;
};

/** Every beat asks, and most find nothing. */
const NOTHING: readonly ProviderDown[] = [];

/** Opens the watch over the providers of a host's agents. */
export function watchProviders({ modelFor, tell, logger }: ProviderWatchOptions): ProviderWatch {
  const tripped = new Set<Agent>();
  /** How many agents have a model behind each. */
  const gates = new Map<ProviderGate, number>();
  const stops = new Set<() => void>();

  return {
    watch,
    tripped: () => [...new Set([...tripped].map(({ name }) => name))],
    down() {
      let found = NOTHING;
      for (const { name, ready, reason = "" } of gates.keys()) {
        if (!ready) found = [...found, { provider: name, reason }];
      }
      return found;
    },
    providers: () => [...gates.keys()].map(({ name, ready, waiting }) => ({ name, down: !ready, waiting })),
    stop() {
      for (const stop of stops) stop();
    },
  };

  function watch(agent: Agent): () => void {
    const models = modelsOf(agent).map((choice) => modelFor({ ...choice, name: agent.name }));
    const own = [...new Set(models.flatMap(({ gate }) => gate ?? []))];
    for (const gate of own) gates.set(gate, (gates.get(gate) ?? 0) + 1);
    const look = () => judge(agent, own);
    // A model without a gate is there whatever happens.
    const watches = models.some(({ gate }) => !gate) ? [] : own.map((gate) => gate.watch(look));
    const stop = () => {
      if (!stops.delete(stop)) return;
      for (const end of watches) end();
      tripped.delete(agent);
      for (const gate of own) {
        const left = (gates.get(gate) ?? 1) - 1;
        if (left === 0) gates.delete(gate);
        else gates.set(gate, left);
      }
    };
    stops.add(stop);
    if (watches.length > 0) look();
    return stop;
  }

  function judge(agent: Agent, own: readonly ProviderGate[]): void {
    const isDown = own.every(({ ready }) => !ready);
    if (isDown === tripped.has(agent)) return;
    if (isDown) {
      tripped.add(agent);
      const reasons = own.map(({ name, reason }) => `${name}: ${reason}`);
      logger.warn({ agent: agent.name }, `tripped, for no provider of its models is there (${reasons.join("; ")})`);
    } else {
      tripped.delete(agent);
      logger.info({ agent: agent.name }, "a provider is asked again");
    }
    tell(agent, { type: isDown ? "trip" : "resume" });
  }
}
