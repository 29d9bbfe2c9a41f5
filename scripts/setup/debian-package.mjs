// Fetches packages of other Debian releases than this machine's, without root and without touching its own sources: apt is
// given a list, an index and a cache of its own.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isExecutable } from "../../bin/fitting-node.mjs";
import { choosePackage } from "./choose-package.mjs";
import { findCommand, runCommand } from "./command.mjs";

/**
 * Fetches the newest nats-server of a release that fits (a function of its version) into `dir`, which is the caller's to
 * remove. Gives `{ file }`, or `{ failure }` with the reason.
 */
export function fetchFromDebian({ suite, fits, dir }) {
  if (!findCommand("apt-get") || !findCommand("dpkg")) return { failure: "apt: not on this machine" };
  const mirrors = findMirrors();
  if (mirrors.length === 0) return { failure: "apt: this machine's sources name no Debian archive" };
  const failures = [];
  for (const mirror of mirrors) {
    const options = prepareApt({ mirror, suite, dir });
    const { lastLine } = runCommand("apt-get", [...options, "update", "-qq"]);
    const { output } = runCommand("apt-cache", [...options, "madison", "nats-server"]);
    const wanted = choosePackage(output, fits);
    if (!wanted) {
      failures.push(`apt: no such version in ${suite} (${lastLine})`);
      continue;
    }
    const { file, failure } = unpack(wanted, { options, dir });
    if (file) return { file };
    failures.push(`apt: ${failure}`);
  }
  return { failure: failures.join("; ") };
}

/** Where this machine gets its own release from; none where it is not Debian itself. */
function findMirrors() {
  const release = readRelease();
  if (release.ID !== "debian") return [];
  const format = "$(RELEASE)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)";
  const { output } = runCommand("apt-get", ["indextargets", "--format", format]);
  const own = output.split("\n").flatMap((line) => {
    // Sources may name the release by its codename or as `stable`.
    const [named, codename, component, uri] = line.split("|");
    return [named, codename].includes(release.VERSION_CODENAME) && component === "main" ? [uri] : [];
  });
  return [...new Set(own)];
}

function readRelease() {
  try {
    const lines = readFileSync("/etc/os-release", "utf8").split("\n");
    return Object.fromEntries(lines.map((line) => line.replaceAll('"', "").split("=", 2)));
  } catch {
    return {};
  }
}

/** The options that make apt see one release of `mirror` alone and write nowhere but in `dir`. */
function prepareApt({ mirror, suite, dir }) {
  for (const folder of ["lists/partial", "cache/archives/partial"]) mkdirSync(join(dir, folder), { recursive: true });
  const list = join(dir, "sources.list");
  writeFileSync(list, `deb ${mirror} ${suite} main\n`);
  const settings = {
    "Dir::Etc::sourcelist": list,
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::State::lists": join(dir, "lists"),
    "Dir::Cache": join(dir, "cache"),
    "Acquire::Languages": "none",
    // Descriptions for software centres, which is half of what an update fetches.
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    // Its own user, which it becomes under root, may not write here.
    "APT::Sandbox::User": "root",
  };
  return Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
}

function unpack(packaged, { options, dir }) {
  const fetched = runCommand("apt-get", [...options, "download", "-qq", `nats-server=${packaged}`], { cwd: dir });
  const archive = readdirSync(dir).find((name) => name.endsWith(".deb"));
  if (!archive) return { failure: fetched.lastLine };
  const root = join(dir, "root");
  const unpacked = runCommand("dpkg", ["-x", join(dir, archive), root]);
  const file = ["usr/sbin", "usr/bin"].map((folder) => join(root, folder, "nats-server")).find(isExecutable);
  return file ? { file } : { failure: unpacked.lastLine };
}
