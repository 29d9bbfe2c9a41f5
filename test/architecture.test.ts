import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { findViolations } from "./helpers/architecture-rules.ts";
import type { SourceFiles } from "./helpers/source-scan.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

function readSources(): SourceFiles {
  const paths = readdirSync(join(root, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => join(entry.parentPath, entry.name));
  return new Map(paths.map((path) => [relative(root, path).split(sep).join("/"), readFileSync(path, "utf8")]));
}

function violationsOf(files: Record<string, string>): string[] {
  return findViolations(new Map(Object.entries(files)));
}

test("the sources keep the import law", () => {
  const sources = readSources();
  expect([...sources.keys()]).toEqual(expect.arrayContaining(["src/errors.ts", "src/actors/agent.ts"]));
  expect(findViolations(sources)).toEqual([]);
});

test("imports that point downward are fine, and so is everything pure code may do", () => {
  const files = {
    "src/errors.ts": "export class TroupeError extends Error {}",
    "src/actors/agent.ts": `import { z } from "zod"; import { TroupeError } from "../errors.ts"; export const agent = z;`,
    "src/workflows/run.ts": `
      import { agent } from "../actors/agent.ts";
      // setTimeout, Date.now() and process in a comment, and "Math.random()" in a string are words.
      export const due = (at: string, process2: { now: number }) => [new Date(at), process2.now, "Math.random()", agent];
      export type Clock = { setTimeout(): void; process: string };
    `,
    "src/tracing/tracing.ts": `import type { due } from "../workflows/run.ts"; import "@opentelemetry/api";`,
    "src/runtime/host.ts": `import "../tracing/tracing.ts"; import "nats"; import "node:fs"; setTimeout(() => {}, Date.now());`,
    "src/index.ts": `export { host } from "./runtime/host.ts";`,
    "src/cli.ts": `import "./index.ts"; process.exit();`,
  };
  expect(violationsOf(files)).toEqual([]);
});

test.each([
  ["actors importing workflows", "src/actors/a.ts", `import "../workflows/w.ts";`],
  ["actors importing a type of workflows", "src/actors/a.ts", `import type { W } from "../workflows/w.ts";`],
  ["actors importing a type in place", "src/actors/a.ts", `export type W = import("../workflows/w.ts").W;`],
  ["workflows importing runtime", "src/workflows/w.ts", `export * from "../runtime/r.ts";`],
  ["workflows importing tracing", "src/workflows/w.ts", `const t = await import("../tracing/t.ts");`],
  ["tracing importing values of workflows", "src/tracing/t.ts", `import { w } from "../workflows/w.ts";`],
  ["tracing importing runtime", "src/tracing/t.ts", `import type { R } from "../runtime/r.ts";`],
  ["runtime importing the door", "src/runtime/r.ts", `import "../index.ts";`],
  ["runtime importing testing", "src/runtime/r.ts", `import "../testing/scripted-model.ts";`],
  ["a new top-level folder importing anything", "src/extras/e.ts", `import "../errors.ts";`],
])("%s is an upward import", (_, path, text) => {
  expect(violationsOf({ [path]: text })).toEqual([expect.stringMatching(/^src\/.*: \w+ must not import /)]);
});

test("a cycle of run-time imports is found and told file by file", () => {
  const files = {
    "src/runtime/a.ts": `import "./b.ts";`,
    "src/runtime/b.ts": `export { c } from "./deep/c.ts";`,
    "src/runtime/deep/c.ts": `import "../a.ts"; export const c = 1;`,
  };
  expect(violationsOf(files)).toEqual([
    "import cycle: src/runtime/a.ts → src/runtime/b.ts → src/runtime/deep/c.ts → src/runtime/a.ts",
  ]);
});

test("a cycle that is only one of types is none", () => {
  const files = {
    "src/runtime/a.ts": `import type { B } from "./b.ts"; export type A = B;`,
    "src/runtime/b.ts": `import { type A } from "./a.ts"; export type B = A;`,
  };
  expect(violationsOf(files)).toEqual([]);
});

test.each([
  "Date.now()",
  "new Date()",
  "Date()",
  "setTimeout(f, 1)",
  "setInterval(f, 1)",
  "setImmediate(f)",
  "Math.random()",
  "performance.now()",
  "process.env.HOME",
  "crypto.randomUUID()",
  "fetch('http://a')",
  "Buffer.from('a')",
  "{ key: Date['now'] }",
])("pure code must not say %s", (expression) => {
  for (const path of ["src/actors/a.ts", "src/workflows/deep/w.ts"]) {
    expect(violationsOf({ [path]: `export const used = ${expression};` })).toEqual([
      expect.stringContaining(`${path}: pure code must not use `),
    ]);
  }
});

test.each(["nats", "@opentelemetry/api", "node:crypto", "fs", "openai", "pino"])(
  "pure code must not import %s, not even its types",
  (name) => {
    const files = { "src/workflows/w.ts": `import type { X } from "${name}";` };
    expect(violationsOf(files)).toEqual([`src/workflows/w.ts: pure code must not import ${name}`]);
  },
);

test.each([
  ["OpenTelemetry outside of tracing", "src/runtime/r.ts", `import { trace } from "@opentelemetry/api";`],
  ["NATS in tracing", "src/tracing/t.ts", `import { connect } from "nats";`],
  ["NATS in the testing door", "src/testing/t.ts", `import { connect } from "@nats-io/transport-node";`],
  ["NATS in the command line", "src/cli.ts", `import type { Msg } from "nats";`],
  ["anything in errors.ts", "src/errors.ts", `import { z } from "zod";`],
  ["what is outside of src", "src/runtime/r.ts", `import "../../test/helpers/until.ts";`],
])("%s is refused", (_, path, text) => {
  expect(violationsOf({ [path]: text })).toEqual([expect.stringMatching(/must not import/)]);
});

test.each(["using", "await using"])("%s in a source is refused, since Node 22 cannot run it unbuilt", (keyword) => {
  const text = `export async function f(open: () => AsyncDisposable & Disposable) { ${keyword} it = open(); return it; }`;
  expect(violationsOf({ "src/runtime/r.ts": text })).toEqual([expect.stringContaining("Node 22 does not know")]);
});

test.each(["src/runtime/utils.ts", "src/actors/types.ts", "src/workflows/index.ts", "src/runtime/runHost.ts"])(
  "%s is no name for a file",
  (path) => {
    expect(violationsOf({ [path]: "" })).toEqual([expect.stringContaining(`${path}: `)]);
  },
);
