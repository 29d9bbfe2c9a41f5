import { describe, expect, it } from "vitest";
import { defineAgent } from "../../src/actors/define-agent.ts";
import { fitsPattern, isMcpTool, mcpToolName, patternOf, serverOf } from "../../src/actors/mcp-reference.ts";
import { foldTask } from "../../src/actors/task-fold.ts";
import { call, driveTask, echo, say, taskFor } from "../helpers/task-driver.ts";

const clerk = defineAgent({
  name: "clerk",
  instructions: "x",
  model: "m",
  tools: [echo],
  mcp: ["files.read_*", "git"],
});

describe("a reference to tools of MCP servers", () => {
  it("names a server, and perhaps some of its tools", () => {
    expect([serverOf("files"), patternOf("files")]).toEqual(["files", "*"]);
    expect([serverOf("files.read_*"), patternOf("files.read_*")]).toEqual(["files", "read_*"]);
    expect([serverOf("files.a.b"), patternOf("files.a.b")]).toEqual(["files", "a.b"]);
    for (const wrong of ["", ".", "files.", "my files", ".read"]) {
      expect(() => defineAgent({ name: "a", instructions: "x", model: "m", mcp: [wrong] })).toThrow(
        /^agents\.a\.mcp\[0\]: expected an MCP server's name, perhaps with tools of it/,
      );
    }
  });

  it("fits names by patterns in which only the star is special", () => {
    expect(["read_a", "read_", "xread_a", "READ_a"].map((name) => fitsPattern(["read_*"], name))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(fitsPattern(["a.b*c", "x"], "a.b--c")).toBe(true);
    expect(fitsPattern(["a.b"], "aXb")).toBe(false);
  });

  it("gives models names that every provider takes", () => {
    expect(mcpToolName("files", "a.b/c d")).toBe("files_a_b_c_d");
    expect(isMcpTool(["files.read_*"], "files_write")).toBe(true);
    expect(isMcpTool(["files"], "filesystem_read")).toBe(false);
  });
});

describe("a task that calls tools of MCP servers", () => {
  const turn = call({ name: "files_read_a", args: { path: "a" } }, { name: "git_log", args: "[1]" }, { name: "nope" });

  it("leaves them to the host, with arguments that are at least an object", async () => {
    const { outcome, requests, executed } = await driveTask(clerk, taskFor("clerk"), [turn, say("done")], {
      runTool: async ({ run }) => `${run.tool === undefined} ${run.call.name} ${JSON.stringify(run.args)}`,
    });
    expect(outcome).toMatchObject({ output: "done" });
    expect(executed).toEqual(["1.c1"]);
    expect(requests[1]?.messages.slice(2).map(({ content }) => content)).toEqual([
      `true files_read_a {"path":"a"}`,
      `error: expected the arguments of git_log as a JSON object, got "[1]"`,
      `error: there is no tool "nope"; there are: echo, files_…, git_…`,
    ]);
  });

  it("is folded without any server", async () => {
    const runTool = async () => "read";
    const { journal } = await driveTask(clerk, taskFor("clerk"), [turn, turn, say("done")], { runTool });
    expect(journal.map(({ type }) => type)).toEqual(["turn", "tool", "turn", "tool"]);
    for (let length = 0; length <= journal.length; length += 1) {
      const recorded = journal.slice(0, length);
      const from = foldTask(clerk, taskFor("clerk"), recorded);
      const again = await driveTask(clerk, taskFor("clerk"), [turn, turn, say("done")], {
        from,
        journal: recorded,
        runTool,
      });
      expect(again.outcome).toMatchObject({ output: "done" });
      expect(again.journal).toHaveLength(journal.length);
    }
  });
});
