import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import pino from "pino";
import { describe, expect, it } from "vitest";
import { loadConfig } from "../../src/runtime/config/load-config.ts";
import { resolveOptions } from "../../src/runtime/config/resolve-options.ts";
import { serveConfig } from "../../src/runtime/edges/serve.ts";
import { outputOf, projectFolder } from "../helpers/run-program.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const readme = await readFile(join(root, "README.md"), "utf8");
const run = promisify(execFile);
const [hello, config, ownTest] = blocks("ts") as [string, string, string];

describe("README.md", () => {
  it("shows examples/hello.ts, and its output", async () => {
    const example = await readFile(join(root, "examples/hello.ts"), "utf8");
    const program = example
      .replace(/^\/\*\*.*?\*\/\n/s, "")
      .replace("../src/index.ts", "troupe")
      .replace("../src/testing/index.ts", "troupe/testing");
    expect(program).toContain(hello);
    expect(await outputOf(hello)).toBe(blocks("")[0]);
  });

  it("shows a test of one's own that passes", async () => {
    expect(await outputOf(ownTest)).toBe("");
  });

  it("shows the same agents and workflows in YAML and in TypeScript, and both load", async () => {
    const dir = await projectFolder();
    try {
      await writeFile(join(dir, "troupe.yaml"), blocks("yaml")[0] ?? "");
      await writeFile(
        join(dir, "tools.ts"),
        `export { lookup_invoice } from ${JSON.stringify(join(root, "examples/tools.ts"))};`,
      );
      await writeFile(join(dir, "troupe.ts"), config);
      const [yaml, typescript] = await Promise.all(
        ["troupe.yaml", "troupe.ts"].map((name) => loadConfig(join(dir, name), dir)),
      );
      expect([...(yaml?.agents.keys() ?? [])]).toEqual([...(typescript?.agents.keys() ?? [])]);
      expect([...(yaml?.workflows.keys() ?? [])]).toEqual([...(typescript?.workflows.keys() ?? [])]);
      for (const name of ["article", "review"]) {
        expect(yaml?.workflows.get(name)?.hash).toBe(typescript?.workflows.get(name)?.hash);
      }
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  it("shows commands that do what it says, beside a daemon with the example agents", async () => {
    const dir = await mkdtemp(join(tmpdir(), "troupe-readme-"));
    const loaded = await loadConfig(join(root, "examples/troupe.yaml"), root);
    const flags = { data: dir, httpPort: 0, logLevel: "silent" };
    const { options } = resolveOptions({ flags, file: loaded.daemon, fileName: loaded.fileName });
    const logger = pino({ level: "silent" });
    const daemon = await serveConfig({ config: loaded, options, logger, telemetry: false });
    try {
      const env = { ...process.env, NATS_URL: daemon.natsUrl, NO_COLOR: "1", PATH: await pathWithNats(dir) };
      const exchanges = blocks("console").flatMap(exchangesIn);
      expect(exchanges).toHaveLength(5);
      for (const { command, output } of exchanges) {
        const { stdout } = await run("/bin/sh", ["-c", command], { cwd: root, env });
        if (command.startsWith("bin/troupe")) expect(stdout.trim()).toMatch(patternOf(output));
      }
      const list = await run("bin/troupe", ["runs", "list", "--json"], { cwd: root, env });
      expect(list.stdout.match(/"workflow": ?"article"/g)).toHaveLength(2);
    } finally {
      await daemon.drain();
      await rm(dir, { recursive: true });
    }
  });

  it("names only scripts that exist", async () => {
    const { scripts } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { scripts: object };
    const named = [...readme.matchAll(/npm (?:run )?(demo|test|start|bench|verify)\b/g)].map(
      ([, name]) => name as string,
    );
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });
});

/** The code blocks in a language, oldest first. */
function blocks(language: string): string[] {
  return [...readme.matchAll(/^```(\w*)\n(.*?)^```$/gms)].flatMap(([, found, text]) =>
    found === language ? [text as string] : [],
  );
}

type Exchange = { command: string; output: string };

function exchangesIn(block: string): Exchange[] {
  return block
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const [command = "", ...lines] = part.split("\n");
      return { command, output: lines.join("\n").trim() };
    });
}

/** What stands for something else each time is written as …, and columns may be wider. */
function patternOf(output: string): RegExp {
  const escaped = output.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${escaped.replaceAll("…", ".*").replaceAll(/ +/g, " +")}$`);
}

/** PATH with a `nats`: the real one where there is one, else `pub` of the same words by the same protocol. */
async function pathWithNats(dir: string): Promise<string> {
  const path = process.env.PATH ?? "";
  const withNode = `${dirname(process.execPath)}${delimiter}${path}`;
  if (path.split(delimiter).some((folder) => existsSync(join(folder, "nats")))) return withNode;
  const natsModule = JSON.stringify(join(root, "node_modules/nats/index.js"));
  const program = `const { connect, StringCodec } = require(${natsModule});
const [verb, subject, body] = process.argv.slice(2);
if (verb !== "pub") throw new Error("expected pub, got " + verb);
connect({ servers: process.env.NATS_URL }).then(async (nc) => {
  nc.publish(subject, StringCodec().encode(body));
  await nc.drain();
});
`;
  const bin = join(dir, "bin");
  await mkdir(bin);
  await writeFile(join(bin, "nats.cjs"), program);
  await writeFile(join(bin, "nats"), `#!/bin/sh\nexec node "${join(bin, "nats.cjs")}" "$@"\n`);
  await chmod(join(bin, "nats"), 0o755);
  return `${bin}${delimiter}${withNode}`;
}
