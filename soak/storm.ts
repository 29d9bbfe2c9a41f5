/** What is done to the system: which deed comes next, to whom, and for how long, all from the seed. */
import { setTimeout as sleep } from "node:timers/promises";
import type { TestNats } from "../test/helpers/nats-server.ts";
import { chanceOf } from "./chance.ts";
import type { SoakDaemon } from "./daemon-process.ts";
import { count, type Figures } from "./figures.ts";
import type { Loss } from "./recovery.ts";

/** One deed of a storm. */
export type Deed = {
  type: "kill" | "stop" | "terminate" | "broker" | "blackout";
  /** Whom it is done to, by index. */
  victim: number;
  /** How long the victim is away, in milliseconds. */
  awayMs: number;
  /** How long until the next deed begins, in milliseconds. */
  gapMs: number;
};

export type StormOptions = {
  seed: number;
  daemons: readonly SoakDaemon[];
  nats: TestNats;
  figures: Figures;
  losses: Loss[];
  /** Model calls without an answer of a process. */
  inFlightOf(pid: number): number;
  onProblem(problem: string): void;
};

export type Storm = {
  /** Whether the broker is there and a daemon that can drive runs. */
  isWhole(): boolean;
  /** Does nothing more, and resolves when everything is there again. */
  calm(): Promise<void>;
};

const WEIGHTS: { [type in Deed["type"]]: number } = { kill: 50, stop: 30, terminate: 12, broker: 13, blackout: 4 };

/** Stops last beyond the suspicion time, which is 2.5 s. */
const AWAY_MS: { [type in Deed["type"]]: readonly [number, number] } = {
  kill: [0, 3_000],
  stop: [3_200, 6_000],
  terminate: [0, 2_000],
  broker: [0, 3_500],
  blackout: [0, 2_500],
};

/** The n-th deed of the storm with this seed. */
export function planDeed(seed: number, n: number, daemons: number): Deed {
  const chance = chanceOf(seed, "deed", n);
  const type = chance.weighted(WEIGHTS);
  return {
    type,
    victim: chance.int(0, daemons - 1),
    awayMs: chance.int(...AWAY_MS[type]),
    gapMs: chance.int(1_000, 5_000),
  };
}

/** Lets the storm begin. */
export function startStorm(options: StormOptions): Storm {
  const { seed, daemons, nats, figures, losses } = options;
  const atWork = new Set<Promise<void>>();
  const busy = new Set<SoakDaemon>();
  const calmed = new AbortController();
  let brokerUp = true;
  const loop = rage();
  return {
    isWhole: () => brokerUp && daemons.some(({ life, isStopped }) => life && !isStopped),
    async calm() {
      calmed.abort();
      await loop;
      await Promise.all(atWork);
    },
  };

  async function rage(): Promise<void> {
    for (let n = 1; !calmed.signal.aborted; n += 1) {
      const deed = planDeed(seed, n, daemons.length);
      const doing = perform(deed).catch((error: unknown) => options.onProblem(`${deed.type}: ${String(error)}`));
      atWork.add(doing);
      void doing.finally(() => atWork.delete(doing));
      await sleep(deed.gapMs, undefined, { signal: calmed.signal }).catch(() => {});
    }
  }

  async function perform({ type: deed, victim, awayMs }: Deed): Promise<void> {
    const daemon = daemons[victim];
    switch (deed) {
      case "kill":
        await withDaemon(daemon, deed, (one) => killAndStart(one, awayMs));
        break;
      case "stop":
        await withDaemon(daemon, deed, async (one) => {
          one.stop();
          await sleep(awayMs);
          one.continue();
        });
        break;
      case "terminate":
        await withDaemon(daemon, deed, async (one) => {
          const code = await one.terminate();
          if (code !== 0) options.onProblem(`${one.name}: expected exit code 0 after SIGTERM, got ${code}`);
          await sleep(awayMs);
          await startAgain(one);
        });
        break;
      case "broker":
        await killBroker(awayMs);
        break;
      case "blackout":
        await Promise.all(daemons.map((each) => withDaemon(each, deed, (one) => killAndStart(one, awayMs))));
        break;
      default:
        deed satisfies never;
    }
  }

  async function killAndStart(daemon: SoakDaemon, awayMs: number): Promise<void> {
    await daemon.kill();
    await sleep(awayMs);
    await startAgain(daemon);
  }

  async function startAgain(daemon: SoakDaemon): Promise<void> {
    const since = performance.now();
    await daemon.start();
    figures.startsMs.push(performance.now() - since);
  }

  /** Whoever is away already is left alone. */
  async function withDaemon(
    daemon: SoakDaemon | undefined,
    deed: Deed["type"],
    act: (daemon: SoakDaemon) => Promise<void>,
  ): Promise<void> {
    if (!daemon?.life || busy.has(daemon)) return;
    const { pid, incarnation } = daemon.life;
    busy.add(daemon);
    count(figures.storm, deed);
    losses.push({ at: Date.now(), deed, incarnation });
    // Whoever is asked to leave finishes what it has in hand.
    if (deed !== "terminate") figures.inFlight += options.inFlightOf(pid);
    try {
      await act(daemon);
    } finally {
      busy.delete(daemon);
    }
  }

  async function killBroker(awayMs: number): Promise<void> {
    if (!brokerUp) return;
    brokerUp = false;
    count(figures.storm, "broker");
    losses.push({ at: Date.now(), deed: "broker" });
    for (const { life } of daemons) if (life) figures.inFlight += options.inFlightOf(life.pid);
    await nats.kill();
    await sleep(awayMs);
    await nats.restart();
    losses.push({ at: Date.now(), deed: "broker back" });
    brokerUp = true;
  }
}
