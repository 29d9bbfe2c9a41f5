/** From a configuration to a daemon that takes work: what `troupe serve`, programs and tests all go through. */
import { hostname } from "node:os";
import { setFlagsFromString } from "node:v8";
import type { Logger } from "pino";
import { noTracing } from "../../tracing/no-tracing.ts";
import { startMetrics } from "../../tracing/start-metrics.ts";
import { startTracing } from "../../tracing/start-tracing.ts";
import type { TroupeConfig } from "../config/define-config.ts";
import { type CheckedConfig, checkConfig } from "../config/load-config.ts";
import type { ResolvedOptions } from "../config/options.ts";
import { resolveOptions } from "../config/resolve-options.ts";
import { withWorkflowsDir } from "../config/workflows-dir.ts";
import { VERSION } from "../version.ts";
import { type Daemon, startDaemon } from "./daemon.ts";
import type { DaemonFleet } from "./daemon-definitions.ts";
import { openLogger } from "./logger.ts";

/** A configuration that was checked, with its options settled. */
export type Serving = {
  config: CheckedConfig;
  options: ResolvedOptions;
  logger: Logger;
  /** Whether spans are exported as the `OTEL_*` variables say. @default true */
  telemetry?: boolean;
};

export type ServeOptions = {
  /** @default one on stdout, as `daemon.logLevel` and `daemon.logFormat` say */
  logger?: Logger;
  /** Where the variables of options are read; they go before `daemon`. @default process.env */
  env?: { readonly [variable: string]: string | undefined };
  /** Where relative paths start. @default the working directory */
  dir?: string;
  /** Whether spans are exported as the `OTEL_*` variables say. @default true */
  telemetry?: boolean;
};

/**
 * Starts a daemon in this process on agents and workflows defined in TypeScript; resolves when it takes work.
 *
 * It does not listen to signals: call its `drain()` to stop it.
 *
 * @throws DefinitionError with everything that is wrong; UsageError when the options cannot be met.
 */
export async function serve(troupe: TroupeConfig, settings: ServeOptions = {}): Promise<Daemon> {
  const { env = process.env, dir = process.cwd(), telemetry = true } = settings;
  const config = await checkConfig(troupe, { fileName: "serve", dir });
  const { options, warnings } = resolveOptions({ env, file: config.daemon, fileName: "serve", fileDir: dir, cwd: dir });
  const logger = settings.logger ?? openLogger(options);
  for (const warning of warnings) logger.warn(warning);
  return serveConfig({ config, options, logger, telemetry });
}

/** What a daemon hosts by a configuration and the folder of definitions beside it. @throws DefinitionError. */
export async function fleetOf(config: CheckedConfig, { workflows: dir }: ResolvedOptions): Promise<DaemonFleet> {
  const whole = dir === undefined ? config : await withWorkflowsDir(config, dir);
  const { agents, workflows, schedules, tools, modelOf, mcpServers } = whole;
  return {
    agents: [...agents.values()],
    workflows: [...workflows.values()],
    schedules,
    modelFor: modelOf,
    tools,
    mcpServers: [...mcpServers.values()],
  };
}

/** Starts a daemon on a checked configuration; resolves when it takes work. Throws what `startDaemon` throws. */
export async function serveConfig({ config, options, logger, telemetry = true }: Serving): Promise<Daemon> {
  const fleet = await fleetOf(config, options);
  // V8 would come to allocate what most steps make directly among the old objects, for much of it outlives a young collection.
  // There it dies at once and keeps all it refers to from dying young: with it half of a run's memory was moved twice.
  setFlagsFromString("--no-allocation-site-pretenuring");
  const instance = options.hostName ?? `${hostname()}-${process.pid}`;
  const metrics = startMetrics({ instance });
  const tracing = telemetry
    ? await startTracing({
        instance,
        ...(options.captureContent && { captureContent: true }),
        logger,
        onDropped: (spans) => metrics.spansDropped(spans),
      })
    : noTracing;
  return startDaemon({
    options,
    ...fleet,
    logger,
    tracing,
    metrics,
    version: VERSION,
  });
}
