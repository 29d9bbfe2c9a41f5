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
  agents: readonly Agent[];
  modelFor: ModelOf;
  /** Tells an agent's actor. */
  tell(agent: Agent, event: { type: "trip" | "resume" }): void;
  logger: Pick<Logger, "warn" | "info">;
};

export type ProviderWatch = {
  /** The agents that are tripped, by name. */
  tripped(): string[];
  down(): readonly ProviderDown[];
  /** The providers of all agents. */
  providers(): ProviderStanding[];
  stop(): void;
};

/** Every beat asks, and most find nothing. */
const NOTHING: readonly ProviderDown[] = [];

/** Starts watching the providers of agents that have started. */
export function watchProviders({ agents, modelFor, tell, logger }: ProviderWatchOptions): ProviderWatch {
  const tripped = new Set<string>();
  const gates = new Set<ProviderGate>();
  const stops: (() => void)[] = [];

  for (const agent of agents) {
    const models = modelsOf(agent).map((choice) => modelFor({ ...choice, name: agent.name }));
    const own = [...new Set(models.flatMap(({ gate }) => gate ?? []))];
    for (const gate of own) gates.add(gate);
    // A model without a gate is there whatever happens.
    if (models.some(({ gate }) => !gate)) continue;
    const look = () => judge(agent, own);
    for (const gate of own) stops.push(gate.watch(look));
    look();
  }

  return {
    tripped: () => [...tripped],
    down() {
      let found = NOTHING;
      for (const { name, ready, reason = "" } of gates) {
        if (!ready) found = [...found, { provider: name, reason }];
      }
      return found;
    },
    providers: () => [...gates].map(({ name, ready, waiting }) => ({ name, down: !ready, waiting })),
    stop() {
      for (const stop of stops) stop();
    },
  };

  function judge(agent: Agent, own: readonly ProviderGate[]): void {
    const isDown = own.every(({ ready }) => !ready);
    if (isDown === tripped.has(agent.name)) return;
    if (isDown) {
      tripped.add(agent.name);
      const reasons = own.map(({ name, reason }) => `${name}: ${reason}`);
      logger.warn({ agent: agent.name }, `tripped, for no provider of its models is there (${reasons.join("; ")})`);
    } else {
      tripped.delete(agent.name);
      logger.info({ agent: agent.name }, "a provider is asked again");
    }
    tell(agent, { type: isDown ? "trip" : "resume" });
  }
}
