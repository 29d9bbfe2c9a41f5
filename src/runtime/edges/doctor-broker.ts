/** The doctor's look at the broker: what it is, what it keeps over a power loss, how much room there is, what time it has. */
import type { Bus } from "../nats/connection.ts";
import { describePowerLoss } from "../nats/durability.ts";
import { AckPolicy, nanos, nuid } from "../nats/nats.ts";
import { readSyncInterval } from "../nats/server-config.ts";
import { readServerRecord } from "../nats/server-record.ts";
import type { BrokerReport, JetStreamReport } from "./diagnosis.ts";

type Clock = { offsetMs: number; uncertaintyMs: number };

/** Reads what the broker says of itself; `storeDir` is where an embedded server would have its store. */
export async function examineBroker(bus: Bus, storeDir: string): Promise<BrokerReport> {
  const { nc } = bus;
  const info = nc.info;
  const version = info?.version ?? "unknown";
  const name = String((info as { server_name?: unknown } | undefined)?.server_name ?? "");
  // Its name is made anew with each start, so it cannot be another one.
  const embedded = name !== "" && readServerRecord(storeDir)?.name === name;
  const syncInterval = embedded ? readSyncInterval(storeDir) : undefined;
  return {
    url: nc.getServer(),
    version,
    name,
    ...(info?.cluster && { cluster: info.cluster }),
    embedded,
    roundTripMs: await nc.rtt(),
    maxPayload: info?.max_payload ?? 0,
    powerLoss: describePowerLoss({ version, ...(syncInterval !== undefined && { syncInterval }) }),
  };
}

/** Reads the account's use of JetStream and its limits. */
export async function examineJetStream(bus: Bus): Promise<JetStreamReport> {
  const jsm = await bus.jsm();
  const { storage, memory, streams, consumers, limits, api } = await jsm.getAccountInfo();
  return {
    storageBytes: storage,
    ...limit("maxStorageBytes", limits.max_storage),
    memoryBytes: memory,
    ...limit("maxMemoryBytes", limits.max_memory),
    streams,
    ...limit("maxStreams", limits.max_streams),
    consumers,
    ...limit("maxConsumers", limits.max_consumers),
    apiErrors: api.errors,
  };
}

/**
 * Compares the broker's clock with this machine's: servers from 2.10 on tell the time with a stream's state; before that the
 * birth of a consumer does, which is taken away again.
 */
export async function examineClock(bus: Bus, stream: string): Promise<Clock> {
  const jsm = await bus.jsm();
  const { told, ...clock } = await timed(async () => (await jsm.streams.info(stream)).ts);
  if (told !== undefined) return clock;
  const name = `doctor-${nuid.next()}`;
  const { told: _told, ...born } = await timed(async () => {
    const consumer = await jsm.consumers.add(stream, {
      name,
      ack_policy: AckPolicy.None,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: nanos(5_000),
    });
    return consumer.created;
  });
  // Its inactivity threshold removes it where this fails.
  await jsm.consumers.delete(stream, name).catch(() => {});
  return born;
}

async function timed(ask: () => Promise<string | undefined>): Promise<Clock & { told: string | undefined }> {
  const askedAt = performance.now();
  const told = await ask();
  const tookMs = performance.now() - askedAt;
  // As if it had looked at its clock half way.
  const offsetMs = told === undefined ? 0 : Date.parse(told) - (Date.now() - tookMs / 2);
  return { told, offsetMs: Math.round(offsetMs), uncertaintyMs: Math.ceil(tookMs / 2) };
}

/** The broker says -1, or 0, where there is none. */
function limit<Key extends string>(key: Key, value: number): { [K in Key]?: number } {
  return (value > 0 ? { [key]: value } : {}) as { [K in Key]?: number };
}
