import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { isExecutable } from "../../bin/fitting-node.mjs";
import { findCommand, runCommand, SetupError, say, toolsDir } from "./command.mjs";

// Debian puts it into /usr/sbin, which is not on every user's PATH. src/runtime/nats/find-server.ts looks in the same places.
const MORE_DIRS = ["/usr/local/bin", "/usr/local/sbin", "/usr/sbin", "/opt/homebrew/bin", join(toolsDir, "bin")];

// Newest first; each line of releases asks for a newer Go than the one before (1.25, 1.23).
const GO_VERSIONS = ["v2.12.15", "v2.10.29"];

const ASK = "install nats-server 2.9 or newer and put it on PATH, or set TROUPE_NATS_SERVER to its file";

/** The nats-server of this machine, or undefined. */
export function findNatsServer() {
  const chosen = process.env.TROUPE_NATS_SERVER;
  if (!chosen) return findCommand("nats-server", MORE_DIRS);
  const file = isExecutable(chosen) ? chosen : findCommand(chosen);
  if (!file) throw new SetupError(`TROUPE_NATS_SERVER: expected the file of a nats-server, got ${chosen}`);
  return file;
}

/** Brings nats-server: by the system's package manager where this user may, else with Go into .tools/bin. */
export function installNatsServer() {
  for (const way of [...packageManagerWays(), ...goWays()]) {
    say(`nats-server is missing, trying ${way.name}`);
    for (const { command, args, env } of way.commands) {
      if (!runCommand(command, args, { env }).ok) break;
    }
    const found = findNatsServer();
    if (found) return found;
  }
  throw new SetupError(ASK);
}

function packageManagerWays() {
  const ways = [];
  if (findCommand("brew"))
    ways.push({ name: "brew", commands: [{ command: "brew", args: ["install", "nats-server"] }] });
  const asRoot = rootPrefix();
  if (!asRoot) return ways;
  const [first, ...rest] = asRoot;
  const root = (command, ...args) =>
    first
      ? { command: first, args: [...rest, command, ...args] }
      : { command, args, env: { DEBIAN_FRONTEND: "noninteractive" } };
  if (findCommand("apt-get")) {
    ways.push({
      name: "apt-get",
      commands: [
        root("apt-get", "update", "-qq"),
        root("apt-get", "install", "-y", "-qq", "--no-install-recommends", "nats-server"),
      ],
    });
  }
  if (findCommand("apk")) ways.push({ name: "apk", commands: [root("apk", "add", "nats-server")] });
  if (findCommand("dnf")) ways.push({ name: "dnf", commands: [root("dnf", "install", "-y", "nats-server")] });
  return ways;
}

/** What to put before a command that needs root: nothing as root, sudo where it asks no password, else undefined. */
function rootPrefix() {
  if (process.getuid?.() === 0) return [];
  if (findCommand("sudo") && runCommand("sudo", ["-n", "true"]).ok) {
    return ["sudo", "-n", "DEBIAN_FRONTEND=noninteractive"];
  }
  return undefined;
}

function goWays() {
  const go = findCommand("go", ["/usr/local/go/bin"]);
  if (!go) return [];
  const GOBIN = join(toolsDir, "bin");
  mkdirSync(GOBIN, { recursive: true });
  return GO_VERSIONS.map((version) => ({
    name: `go install (${version})`,
    commands: [{ command: go, args: ["install", `github.com/nats-io/nats-server/v2@${version}`], env: { GOBIN } }],
  }));
}
