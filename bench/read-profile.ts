/**
 * Reads a V8 CPU profile (the `.cpuprofile` of Chrome's tools and of `--cpu-prof`) into three rankings of processor time:
 * where it was spent, by package or file and by function, and on behalf of which function of ours.
 */

type ProfileNode = {
  id: number;
  callFrame: { functionName: string; url: string; lineNumber: number };
  children?: number[];
};

/** The parts of a profile that are used here; times are in microseconds. */
export type CpuProfile = { nodes: ProfileNode[]; samples: number[]; timeDeltas: number[] };

/** A line of a ranking; `share` is the part of the time in which the thread was not idle. */
export type Ranked = { name: string; ms: number; share: number };

export type ProfileReading = {
  /** Time in which the thread did something, in milliseconds. */
  busyMs: number;
  /** Own time of each package and file of ours, with what Node did for it. */
  byOrigin: Ranked[];
  /** Own time of each function. */
  byFunction: Ranked[];
  /** Own time of everything, credited to the innermost function of `src/` or `bench/` that led to it. */
  byCause: Ranked[];
};

const IDLE = "(idle)";
/** V8's own entries: `(program)` is native code outside of functions, such as system calls. */
const SPECIAL = /^\((?:root|program|idle|garbage collector)\)$/;

/** Ranks a profile; each ranking is complete and begins with the most. */
export function readProfile(profile: CpuProfile): ProfileReading {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map(
    profile.nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)),
  );
  const tree = { nodes, parents };
  const own = ownTimes(profile);
  const origins = new Map<string, number>();
  const functions = new Map<string, number>();
  const causes = new Map<string, number>();
  let busyUs = 0;
  for (const [id, us] of own) {
    const node = nodes.get(id);
    if (!node || node.callFrame.functionName === IDLE) continue;
    busyUs += us;
    add(origins, originOf(node, tree), us);
    add(functions, placeOf(node), us);
    add(causes, causeOf(node, tree), us);
  }
  const rank = (times: Map<string, number>) =>
    [...times]
      .map(([name, us]) => ({ name, ms: us / 1_000, share: us / busyUs }))
      .sort((one, other) => other.ms - one.ms);
  return { busyMs: busyUs / 1_000, byOrigin: rank(origins), byFunction: rank(functions), byCause: rank(causes) };
}

function ownTimes({ samples, timeDeltas }: CpuProfile): Map<number, number> {
  const own = new Map<number, number>();
  // A delta is the time before its sample, so a sample lasts until the next one.
  for (const [i, id] of samples.entries()) add(own, id, Math.max(0, timeDeltas[i + 1] ?? 0));
  return own;
}

type Tree = { nodes: ReadonlyMap<number, ProfileNode>; parents: ReadonlyMap<number, number> };

/** The innermost of a function and its callers that fits. */
function innermost(node: ProfileNode, { nodes, parents }: Tree, fits: (one: ProfileNode) => boolean) {
  let at: ProfileNode | undefined = node;
  while (at && !fits(at)) at = nodes.get(parents.get(at.id) ?? Number.NaN);
  return at;
}

/** Who is to answer for a function: a package, a file of ours; what Node does for them counts as theirs. */
function originOf(node: ProfileNode, tree: Tree): string {
  const owner = innermost(node, tree, ({ callFrame: { url } }) => url !== "" && !url.startsWith("node:"));
  if (!owner) return SPECIAL.test(node.callFrame.functionName) ? node.callFrame.functionName : "node by itself";
  const { url } = owner.callFrame;
  return /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1] ?? fileOf(url);
}

function placeOf({ callFrame: { functionName, url, lineNumber } }: ProfileNode): string {
  if (url === "") return SPECIAL.test(functionName) ? functionName : `${functionName} (built in)`;
  return `${functionName || "(anonymous)"} ${fileOf(url)}:${lineNumber + 1}`;
}

function causeOf(node: ProfileNode, tree: Tree): string {
  const cause = innermost(node, tree, ({ callFrame: { url } }) => /^(src|bench)\//.test(fileOf(url)));
  // Nobody of ours is on the stack: what the socket brings, timers, collection.
  return cause ? placeOf(cause) : `by itself: ${originOf(node, tree)}`;
}

/** A file as we speak of it: from the root of the project, or of the package. */
function fileOf(url: string): string {
  const path = url.replace(/^file:\/\//, "");
  const ours = /.*\/((?:src|bench)\/.*)$/.exec(path.includes("/node_modules/") ? "" : path);
  return ours?.[1] ?? path.replace(/^.*\/node_modules\//, "");
}

function add<Key>(times: Map<Key, number>, key: Key, us: number): void {
  times.set(key, (times.get(key) ?? 0) + us);
}
