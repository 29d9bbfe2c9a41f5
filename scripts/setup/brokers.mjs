// Brings several versions of nats-server side by side, for `npm run test:brokers`.
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isAtLeast, isExecutable } from "../../bin/fitting-node.mjs";
import { findCommand, runCommand, say, toolsDir } from "./command.mjs";
import { fetchFromDebian } from "./debian-package.mjs";
import { findNatsServer } from "./nats-server.mjs";

/**
 * The lines of releases that are tested, each with the Debian release that has it and the versions to build with Go. Those
 * are pinned and tried in order: the newest asks for a newer Go than its second choice.
 */
export const BROKER_LINES = [
  { name: "2.9", suite: "bookworm", fits: (version) => version.startsWith("2.9."), goVersions: ["v2.9.25"] },
  { name: "2.10", suite: "trixie", fits: (version) => version.startsWith("2.10."), goVersions: ["v2.10.29"] },
  { name: "newest", suite: "sid", fits: (version) => isAtLeast(version, "2.11"), goVersions: ["v2.15.2", "v2.12.15"] },
];

/**
 * A nats-server of a line: this machine's own where it fits, else one that was brought before, else from Debian's archive,
 * else built with Go. For `newest` the machine's own goes last, since there may be a newer one.
 * `brokersDir` has a folder for each version that was brought; test/helpers/broker-versions.ts looks there too.
 * Gives `{ version, file }`, or `{ missing }` which says what was tried.
 */
export function obtainBroker({ name, suite, fits, goVersions }, brokersDir = join(toolsDir, "brokers")) {
  const own = describeBroker(findNatsServer(), fits);
  if (own && name !== "newest") return own;
  mkdirSync(brokersDir, { recursive: true });
  const brought = newestOf(broughtBrokers(fits, brokersDir));
  if (brought) return brought;
  const failures = [];
  const ways = [
    (dir) => fetchFromDebian({ suite, fits, dir }),
    ...goVersions.map((version) => (dir) => buildWithGo(version, dir)),
  ];
  say(`bringing nats-server ${name} into ${brokersDir}`);
  for (const way of ways) {
    const dir = mkdtempSync(join(brokersDir, ".new-"));
    try {
      const { file, failure } = way(dir);
      const broker = file && describeBroker(file, fits);
      if (broker) return keepBroker(broker, brokersDir);
      // Built for another C library, as like as not.
      failures.push(failure ?? `${file} does not run on this machine`);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  }
  return own ?? { missing: failures.join("; ") };
}

/** What a file is, as `{ version, file }`; undefined where it is no nats-server that runs here and fits. */
function describeBroker(file, fits) {
  if (!file) return undefined;
  const version = /v(\d+\.\d+\.\d+)/.exec(runCommand(file, ["--version"]).output)?.[1];
  return version && fits(version) ? { version, file } : undefined;
}

function broughtBrokers(fits, brokersDir) {
  const files = readdirSync(brokersDir).map((version) => join(brokersDir, version, "nats-server"));
  return files.filter(isExecutable).flatMap((file) => describeBroker(file, fits) ?? []);
}

function newestOf(brokers) {
  return brokers.reduce(
    (newest, broker) => (newest && isAtLeast(newest.version, broker.version) ? newest : broker),
    undefined,
  );
}

function keepBroker({ version, file }, brokersDir) {
  const dir = join(brokersDir, version);
  mkdirSync(dir, { recursive: true });
  const kept = join(dir, "nats-server");
  renameSync(file, kept);
  return { version, file: kept };
}

function buildWithGo(version, dir) {
  const go = findCommand("go", ["/usr/local/go/bin"]);
  if (!go) return { failure: `go install ${version}: Go is not installed` };
  const { ok, lastLine } = runCommand(go, ["install", `github.com/nats-io/nats-server/v2@${version}`], {
    env: { GOBIN: dir },
  });
  return ok ? { file: join(dir, "nats-server") } : { failure: `go install ${version}: ${lastLine}` };
}
