/** The import law of the project, as functions from a set of files to sentences on what breaks it. */
import { posix } from "node:path";
import { type Import, type SourceFiles, type SourceScan, scanSource } from "./source-scan.ts";

type Layer = {
  /** Layers it may import from, beside itself. */
  may: readonly string[];
  /** Layers it may import only types from. */
  mayTypes?: readonly string[];
};

/** cli, index → runtime → workflows → actors → errors; runtime → tracing. */
const LAW: Readonly<Record<string, Layer>> = {
  errors: { may: [] },
  actors: { may: ["errors"] },
  workflows: { may: ["actors", "errors"] },
  tracing: { may: ["errors"], mayTypes: ["workflows", "actors"] },
  runtime: { may: ["tracing", "workflows", "actors", "errors"] },
  testing: { may: ["runtime", "workflows", "actors", "errors"] },
  index: { may: ["runtime", "tracing", "workflows", "actors", "errors"] },
  cli: { may: ["index", "runtime", "tracing", "workflows", "actors", "errors"] },
};

const PURE_LAYERS: readonly string[] = ["actors", "workflows"];

/** The only packages that pure code may use: each decides from its arguments alone. */
const PURE_PACKAGES: readonly string[] = ["zod", "xstate", "@marcbachmann/cel-js", "croner"];

/** What reaches for time, chance, the process or the network. */
const IMPURE_GLOBALS: readonly string[] = [
  "Date.now",
  "new Date()",
  "Date()",
  "Math.random",
  "performance",
  "setTimeout",
  "setInterval",
  "setImmediate",
  "process",
  "crypto",
  "fetch",
  "Buffer",
  "require",
  "globalThis",
];

const VAGUE_NAMES = /^(utils?|helpers?|types?|misc|common)\.ts$/;
const DOORS: readonly string[] = ["src/index.ts", "src/testing/index.ts"];

/** Every break of the law in these files, one sentence each; empty when there is none. */
export function findViolations(files: SourceFiles): string[] {
  const scans = new Map([...files].map(([path, text]) => [path, scanSource(path, text)] as const));
  return [
    ...[...scans].flatMap(([path, scan]) => [
      ...checkName(path),
      ...checkPurity(path, scan),
      ...checkSyntax(path, scan),
      ...scan.imports.flatMap((used) => checkImport(path, used)),
    ]),
    ...findCycles(scans),
  ];
}

function checkName(path: string): string[] {
  const name = posix.basename(path);
  if (VAGUE_NAMES.test(name)) return [`${path}: a file is named for the one thing it exports`];
  if (name === "index.ts" && !DOORS.includes(path)) return [`${path}: only ${DOORS.join(" and ")} are doors`];
  if (!/^[a-z0-9]+(-[a-z0-9]+)*\.ts$/.test(name)) return [`${path}: expected a kebab-case name`];
  return [];
}

function checkPurity(path: string, { globals }: SourceScan): string[] {
  if (!PURE_LAYERS.includes(layerOf(path))) return [];
  return IMPURE_GLOBALS.filter((name) => globals.has(name)).map((name) => `${path}: pure code must not use ${name}`);
}

/** Sources run unbuilt; tests would hide this one, since vitest rewrites it. */
function checkSyntax(path: string, { declaresUsing }: SourceScan): string[] {
  return declaresUsing
    ? [`${path}: Node 22 does not know \`using\` declarations; call close() or stop() in a finally`]
    : [];
}

function checkImport(path: string, used: Import): string[] {
  return used.specifier.startsWith(".") ? checkRelative(path, used) : checkPackage(path, used.specifier);
}

function checkRelative(path: string, { specifier, typeOnly }: Import): string[] {
  const target = resolveImport(path, specifier);
  if (!target.startsWith("src/")) return [`${path}: must not import ${target}, which is outside of src`];
  const [from, to] = [layerOf(path), layerOf(target)];
  const { may, mayTypes = [] } = LAW[from] ?? { may: [] };
  if (from === to || may.includes(to) || (typeOnly && mayTypes.includes(to))) return [];
  return [`${path}: ${from} must not import ${typeOnly ? "types of " : ""}${to} (${target})`];
}

function checkPackage(path: string, specifier: string): string[] {
  const layer = layerOf(path);
  const name = packageOf(specifier);
  const refuse = (who: string) => [`${path}: ${who} must not import ${specifier}`];
  if (layer === "errors") return refuse("errors.ts imports nothing; it");
  if (PURE_LAYERS.includes(layer) && !PURE_PACKAGES.includes(name)) return refuse("pure code");
  if (name.startsWith("@opentelemetry/") && layer !== "tracing")
    return refuse("only tracing knows OpenTelemetry; this");
  if (/^(nats$|@nats-io\/)/.test(name) && layer !== "runtime") return refuse("only runtime knows NATS; this");
  return [];
}

/** Cycles of imports that are there at run time. */
function findCycles(scans: ReadonlyMap<string, SourceScan>): string[] {
  const done = new Set<string>();
  const cycles: string[] = [];
  const follow = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) cycles.push(`import cycle: ${[...trail.slice(at), path].join(" → ")}`);
    if (at >= 0 || done.has(path)) return;
    for (const { specifier, typeOnly } of scans.get(path)?.imports ?? []) {
      if (!typeOnly && specifier.startsWith(".")) follow(resolveImport(path, specifier), [...trail, path]);
    }
    done.add(path);
  };
  for (const path of scans.keys()) follow(path, []);
  return cycles;
}

/** The part of src a file belongs to: its folder, or its own name at the top. */
function layerOf(path: string): string {
  return (path.split("/")[1] ?? "").replace(/\.ts$/, "");
}

function resolveImport(from: string, specifier: string): string {
  return posix.join(posix.dirname(from), specifier);
}

function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}
