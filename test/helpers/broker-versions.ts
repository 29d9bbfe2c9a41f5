/** The versions of nats-server on this machine: the one that is found, and those that `npm run test:brokers` brought. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findNatsServer, readNatsServerVersion } from "../../src/runtime/nats/find-server.ts";

export type BrokerVersion = { /** As in `2.9.10`. */ version: string; file: string };

// Where scripts/setup/brokers.mjs puts them.
const BROUGHT = fileURLToPath(new URL("../../.tools/brokers", import.meta.url));

/** All that are there, oldest first, each version once. */
export async function findBrokerVersions(): Promise<BrokerVersion[]> {
  const files = [findNatsServer(), findNatsServer(undefined, { PATH: process.env.PATH }), ...broughtFiles()];
  const found = await Promise.all(
    files.map(async (file) => ({ file, version: await readNatsServerVersion(file).catch(() => "") })),
  );
  const byVersion = new Map(found.filter(({ version }) => version !== "").map((broker) => [broker.version, broker]));
  return [...byVersion.values()].sort((a, b) => compareVersions(a.version, b.version));
}

/** Negative when `a` is older than `b`, 0 when they are the same. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split(".").map(Number));
  for (let part = 0; part < 3; part += 1) {
    const difference = (left?.[part] ?? 0) - (right?.[part] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function broughtFiles(): string[] {
  try {
    return readdirSync(BROUGHT).map((version) => join(BROUGHT, version, "nats-server"));
  } catch {
    return [];
  }
}
