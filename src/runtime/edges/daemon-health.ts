/** Whether a daemon can take work, and the HTTP page that says so. */
import type { Logger } from "pino";
import { UsageError } from "../../errors.ts";
import type { Metrics } from "../../tracing/metrics.ts";
import { optionOf, type ResolvedOptions } from "../config/options.ts";
import type { ProviderDown } from "../hosts/provider-watch.ts";
import { type HttpEdge, PORT_TAKEN, startHttp } from "./http.ts";

/** How far a daemon has come; whoever brings it on sets it. */
export type DaemonHealth = {
  natsUp: boolean;
  provisioned: boolean;
  indexed: boolean;
  draining: boolean;
  /** Why JetStream stores nothing. */
  refusal: string | undefined;
  /** What is lost of the streams this daemon started with. */
  loss: string | undefined;
  /** What does not keep it from taking work, one sentence each. */
  warnings: () => string[];
};

/** The health of a daemon that has just begun to start. */
export function healthAtStart(): DaemonHealth {
  return {
    natsUp: false,
    provisioned: false,
    indexed: false,
    draining: false,
    refusal: undefined,
    loss: undefined,
    warnings: () => [],
  };
}

/**
 * Serves health and metrics; the default port gives way to a second daemon on one machine, a chosen one does not.
 *
 * @throws UsageError when it cannot have the address.
 */
export async function serveHealth(
  { httpHost: host, httpPort: port }: ResolvedOptions,
  health: DaemonHealth,
  metrics: Metrics,
  logger: Logger,
): Promise<HttpEdge> {
  const pages = { host, health: () => readiness(health), metrics: () => metrics.render() };
  try {
    return await startHttp({ port, ...pages });
  } catch (error) {
    const isTaken = error instanceof UsageError && error.code === PORT_TAKEN;
    if (!isTaken || port !== optionOf("httpPort").default) throw error;
    const http = await startHttp({ port: 0, ...pages });
    logger.warn({ wanted: port, http: http.url }, "the default HTTP port is taken; using a free one");
    return http;
  }
}

function readiness({ natsUp, provisioned, indexed, draining, refusal, loss, warnings }: DaemonHealth) {
  const reasons = [
    ...(natsUp ? [] : ["NATS is away"]),
    ...(provisioned ? [] : ["the streams are not ready"]),
    ...(provisioned && !indexed ? ["the run index is catching up"] : []),
    ...(refusal === undefined ? [] : [`JetStream refuses to store: ${refusal}`]),
    ...(loss === undefined ? [] : [`${loss}; restart this daemon when that is as you want it`]),
    ...(draining ? ["draining"] : []),
  ];
  return { live: true, ready: reasons.length === 0, reasons, warnings: warnings() };
}

/** What a daemon says of providers that are down. */
export function warningsOf(down: readonly ProviderDown[], tripped: readonly string[]): string[] {
  return [
    ...down.map(({ provider, reason }) => `the provider ${provider} is down: ${reason}`),
    ...tripped.map((agent) => `agent ${agent} waits for a provider to be back`),
  ];
}
