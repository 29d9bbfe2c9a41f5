/** What every scenario stands on: a broker, a model provider, perhaps a collector, and daemons as processes. */
import { type DaemonHome, type DaemonSetup, startDaemonProcesses } from "./daemon-process.ts";
import { startTestNats, type TestNats } from "./nats-server.ts";
import { type NumberedModelOptions, type NumberedModelServer, startNumberedModel } from "./numbered-model-server.ts";
import { startTestReceiver, type TestReceiver } from "./otlp-receiver.ts";
import { openRawJournals, type RawJournals } from "./raw-journals.ts";

export type StageOptions = {
  /** How many daemons. @default 1 */
  daemons?: number;
  /** Options of every daemon, by key. */
  options?: { [key: string]: unknown };
  model?: NumberedModelOptions;
  /** The nats-server to start with. @default see `findNatsServer` */
  executable?: string;
  /** More lines for its configuration, given its store. */
  natsConfig?: (storeDir: string) => string;
  /** Whether daemons are traced. @default false */
  traced?: boolean;
} & Pick<DaemonSetup, "workflows" | "bare" | "logLevel">;

export type Stage = AsyncDisposable & {
  nats: TestNats;
  model: NumberedModelServer;
  collector: TestReceiver;
  journals: RawJournals;
  daemons: readonly DaemonHome[];
  /** The first daemon. */
  daemon: DaemonHome;
  /** Starts another daemon like the others; it ends with the stage. */
  join(changes?: Partial<DaemonSetup>): Promise<DaemonHome>;
};

/** Starts everything; use it with `await using`. */
export async function openStage(options: StageOptions = {}): Promise<Stage> {
  const {
    daemons: count = 1,
    options: daemonOptions,
    model: modelOptions,
    traced = false,
    executable,
    natsConfig,
    ...rest
  } = options;
  const nats = await startTestNats({
    ...(executable !== undefined && { executable }),
    ...(natsConfig !== undefined && { configFor: natsConfig }),
  });
  const [model, collector, journals] = await Promise.all([
    startNumberedModel(modelOptions),
    startTestReceiver(),
    openRawJournals(nats.url),
  ]);
  const setup: DaemonSetup = {
    modelUrl: model.url,
    ...(traced && { otlpUrl: collector.url }),
    ...rest,
    // Requests in a killed daemon's hands come back sooner than by default: half a minute of waiting proves nothing.
    options: { nats: [nats.url], ackWaitMs: 3_000, ...daemonOptions },
  };
  const daemons = await startDaemonProcesses(count, setup);
  const joined: (readonly DaemonHome[] & AsyncDisposable)[] = [daemons];
  return {
    nats,
    model,
    collector,
    journals,
    daemons,
    daemon: daemons[0] as DaemonHome,
    async join(changes = {}) {
      const more = await startDaemonProcesses(1, {
        ...setup,
        ...changes,
        options: { ...setup.options, ...changes.options },
      });
      joined.push(more);
      return more[0] as DaemonHome;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(joined.map((homes) => homes[Symbol.asyncDispose]()));
      await Promise.all([model, collector, journals].map((part) => part[Symbol.asyncDispose]()));
      await nats[Symbol.asyncDispose]();
    },
  };
}
