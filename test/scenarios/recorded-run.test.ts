import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parse } from "yaml";
import { connect } from "../../src/index.ts";
import { startTestNats } from "../helpers/nats-server.ts";
import { startOpenAIServer } from "../helpers/openai-server.ts";
import { projectFolder } from "../helpers/run-program.ts";
import { startTroupe, type Troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

/** The tool is at work until the file `go` is there, so that a daemon can be killed in the middle. */
const FILES = {
  "troupe.yaml": `
providers:
  kept: { module: ./model.ts }
agents:
  clerk: { instructions: Look it up., model: test, provider: kept, tools: [lookup] }
  writer: { instructions: Write it down., model: test, provider: kept }
tools:
  lookup: { module: ./tools.ts }
workflows:
  report: { agents: [clerk, writer] }
`,
  "model.ts": `
import { openaiModel } from "troupe";
import { recordModel, replayModel } from "troupe/testing";
const { PROVIDER_URL } = process.env;
export default PROVIDER_URL
  ? recordModel(openaiModel({ baseURL: PROVIDER_URL, apiKey: "sk-only-for-this-test-0123" }), "report.yaml", { add: true })
  : replayModel("report.yaml");
`,
  "tools.ts": `
import { existsSync, writeFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { defineTool } from "troupe";
import { z } from "zod";
export const lookup = defineTool({
  name: "lookup",
  description: "Looks a word up.",
  parameters: z.object({ word: z.string() }),
  async execute({ word }, { signal }) {
    writeFileSync("begun", word);
    while (!existsSync("go")) await wait(20, undefined, { signal });
    return word + " is a plant";
  },
});
`,
};

it("a run is recorded from a provider and replayed without it, with the daemon killed in the middle of both", async () => {
  await using nats = await startTestNats();
  const dir = await projectFolder();
  const served: Troupe[] = [];
  const server = await startOpenAIServer({
    reply({ messages, tools }) {
      const last = messages.at(-1);
      if (!tools) return `Written down: ${String(last?.content).split("\n").at(-2)}`;
      if (last?.role === "tool") return `So: ${last.content}.`;
      return { toolCalls: [{ name: "lookup", arguments: { word: "tea" } }] };
    },
  });
  const client = await connect({ servers: nats.url });
  const serve = async (env: { [name: string]: string }) => {
    const flags = ["--nats", nats.url, "--http-port", "0", "--drain-timeout", "1s"];
    const daemon = startTroupe(["serve", ...flags], { cwd: dir, env });
    served.push(daemon);
    const ready = () => {
      if (daemon.child.exitCode !== null) throw new Error(`troupe serve ended: ${daemon.out.stderr}`);
      return daemon.out.stdout.includes('"ready"');
    };
    await until("the daemon is ready", ready, { withinMs: 30_000 });
    return daemon;
  };
  const runWithKill = async (env: { [name: string]: string }) => {
    await rm(join(dir, "go"), { force: true });
    await rm(join(dir, "begun"), { force: true });
    const first = await serve(env);
    const { runId } = await client.start("report", "tea");
    await until("the tool is at work", () => existsSync(join(dir, "begun")), { withinMs: 30_000 });
    first.child.kill("SIGKILL");
    await first.ended;
    await writeFile(join(dir, "go"), "");
    const second = await serve(env);
    const output = await client.result(runId, { timeoutMs: 60_000 });
    const transcript = await client.transcript(runId);
    second.child.kill("SIGTERM");
    await second.ended;
    return { output, transcript };
  };
  try {
    for (const [name, text] of Object.entries(FILES)) await writeFile(join(dir, name), text);
    const recorded = await runWithKill({ PROVIDER_URL: server.url });
    expect(recorded.output).toMatch(/^Written down: /);
    expect(server.violations).toEqual([]);
    // What was recorded before the kill is not asked for again.
    expect(server.calls).toHaveLength(3);
    const cassette = await readFile(join(dir, "report.yaml"), "utf8");
    expect((parse(cassette) as { calls: unknown[] }).calls).toHaveLength(3);
    expect(cassette).not.toContain("sk-only");
    await server.close();

    expect(await runWithKill({})).toEqual(recorded);
    expect(recorded.transcript).toContain('clerk\n  calls lookup {"word":"tea"}\n  lookup answers: tea is a plant\n');
  } finally {
    for (const { child } of served) child.kill("SIGKILL");
    await client.close();
    await server.close();
    await rm(dir, { recursive: true });
  }
}, 180_000);
