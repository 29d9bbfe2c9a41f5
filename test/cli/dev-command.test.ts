import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startTroupe, troupe } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";
import { CLI_FILES } from "./cli-files.ts";

const FRESH = `
import { rulesModel, say } from "troupe/testing";

export default rulesModel([{ reply: say("new here") }]);
`;

test("dev takes up changes of the configuration and of its folder, and keeps the last good one where there are mistakes", async () => {
  const dir = await realpath(await mkdtemp(join(tmpdir(), "troupe-dev-")));
  const config = CLI_FILES["troupe.yaml"];
  const write = (name: string, text: string) => writeFile(join(dir, name), text);
  await mkdir(join(dir, "flows"));
  await write("model.ts", CLI_FILES["model.ts"]);
  await write("troupe.yaml", config);
  await write("flows/first.yaml", "agents: [echo]\n");
  const dev = startTroupe(["dev", "--http-port", "0", "--workflows", "flows"], { cwd: dir });
  const said = (what: string | RegExp, after = 0) =>
    until(`it says ${what}`, () => {
      if (dev.child.exitCode !== null) throw new Error(`troupe dev ended: ${dev.out.stdout}${dev.out.stderr}`);
      const text = dev.out.stdout.slice(after);
      return typeof what === "string" ? text.includes(what) : what.test(text);
    });
  const run = (...args: string[]) => troupe(["run", ...args], { cwd: dir });
  try {
    await said("watching");
    expect((await run("first", "tea")).stdout).toBe("echo of tea\n");

    await write("flows/second.yaml", "agents: [echo, loud]\n");
    await said(/reloaded[\s\S]*second/);
    expect((await run("second", "tea")).stdout).toContain("YES");

    const mark = dev.out.stdout.length;
    await write("flows/first.yaml", "agents: [ecko]\ncolour: red\n");
    await said("not reloaded", mark);
    expect(dev.out.stdout.slice(mark)).toMatch(/first.yaml:1: agents\[0\]: expected an agent's name/);
    expect(dev.out.stdout.slice(mark)).toMatch(/first.yaml:2: colour: expected one of the keys/);
    expect((await run("first", "tea")).stdout).toBe("echo of tea\n");

    const fixed = dev.out.stdout.length;
    await write("flows/first.yaml", "agents: [newcomer]\n");
    await said("not reloaded", fixed);
    await write("fresh.ts", FRESH);
    const agents = "agents:\n  newcomer: { instructions: New., model: test, provider: fresh }\n";
    const providers = "providers:\n  fresh: { module: ./fresh.ts }\n";
    await write("troupe.yaml", config.replace("agents:\n", agents).replace("providers:\n", providers));
    await said(/reloaded[\s\S]*changed[\s\S]*first/, fixed);
    expect((await run("first", "tea")).stdout).toBe("new here\n");
  } finally {
    dev.child.kill("SIGTERM");
    expect((await dev.ended).code).toBe(0);
    await rm(dir, { recursive: true });
  }
}, 60_000);
