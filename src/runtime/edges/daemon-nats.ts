/** A daemon's NATS: its own server where it is given none, one connection, and the streams it needs. */
import { join } from "node:path";
import type { Logger } from "pino";
import type { ResolvedOptions } from "../config/options.ts";
import { type Bus, connectBus } from "../nats/connection.ts";
import { provision } from "../nats/provision.ts";
import { type NatsServerProcess, startNatsServer } from "../nats/server.ts";
import type { Subjects } from "../subjects.ts";
import type { DaemonHealth } from "./daemon-health.ts";
import { sayDenials } from "./denials.ts";
import type { StartedParts } from "./started-parts.ts";

export type DaemonNats = {
  readonly bus: Bus;
  /** Where it is. */
  readonly servers: readonly string[];
  /** The server this daemon runs itself. */
  readonly embedded: NatsServerProcess | undefined;
};

export type DaemonNatsOptions = {
  options: ResolvedOptions;
  subjects: Subjects;
  /** The connection's name and the prefix of its inboxes. */
  name: string;
  inboxPrefix: string;
  health: DaemonHealth;
  started: StartedParts;
  logger: Logger;
};

const TRY_AGAIN_MS = 500;
/** How long the last messages may take to go out, in milliseconds. */
const CLOSE_MS = 500;

/** Connects a daemon and resolves when its streams are there; waits for a broker for as long as it takes. */
export async function openDaemonNats(given: DaemonNatsOptions): Promise<DaemonNats> {
  const { options, subjects, name, inboxPrefix, health, started, logger } = given;
  const embedded = options.nats ? undefined : started.add(await startEmbedded(options), (server) => server.stop());
  const servers = options.nats ?? (embedded ? [embedded.url] : []);
  logger.info({ nats: servers, embedded: embedded !== undefined }, "connecting to NATS");
  const connected = await connectBus(natsOptions(options, servers, name, inboxPrefix), {
    lost: (reason) => {
      health.natsUp = false;
      logger.warn({ reason }, "NATS is away; waiting for it");
    },
    restored: (server) => {
      health.natsUp = true;
      logger.info({ server }, "NATS is back");
    },
    failed: (error) => logger.error({ err: error }, "a message could not be handled"),
    denied: sayDenials(logger),
  });
  const bus = started.add(connected, (open) => open.close(), CLOSE_MS);
  bus.store.onChange((refusal) => {
    health.refusal = refusal;
    if (refusal === undefined) logger.info("JetStream stores again");
    else logger.error({ refusal }, "JetStream refuses to store; everything waits until there is room");
  });
  health.natsUp = true;
  await provisionWhenPossible(bus, subjects, options, logger);
  health.provisioned = true;
  return { bus, servers, embedded };
}

function startEmbedded({ data, syncInterval, natsServer }: ResolvedOptions): Promise<NatsServerProcess> {
  return startNatsServer({
    storeDir: join(data, "nats"),
    syncInterval,
    ...(natsServer !== undefined && { executable: natsServer }),
  });
}

function natsOptions(options: ResolvedOptions, servers: readonly string[], name: string, inboxPrefix: string) {
  const { creds, nkey, token, user, password, tlsCa, tlsCert, tlsKey } = options;
  return {
    servers,
    name,
    inboxPrefix,
    ...(creds !== undefined && { creds }),
    ...(nkey !== undefined && { nkey }),
    ...(token !== undefined && { token }),
    ...(user !== undefined && { user }),
    ...(password !== undefined && { password }),
    ...(tlsCa !== undefined && { tlsCa }),
    ...(tlsCert !== undefined && { tlsCert }),
    ...(tlsKey !== undefined && { tlsKey }),
  };
}

/** JetStream may come up after the connection does, and the connection may go in between. */
async function provisionWhenPossible(
  bus: Bus,
  subjects: Subjects,
  { ackWaitMs, replicas }: ResolvedOptions,
  logger: Logger,
) {
  for (let said = false; ; said = true) {
    try {
      await provision(bus, subjects, { ackWaitMs, replicas });
      return;
    } catch (error) {
      if (!said) logger.warn({ err: error }, "the streams cannot be made yet; trying on");
      await new Promise((resolve) => setTimeout(resolve, TRY_AGAIN_MS));
    }
  }
}
