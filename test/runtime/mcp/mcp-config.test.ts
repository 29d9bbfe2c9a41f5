import { expect, test } from "vitest";
import { describeProblem, type Problem } from "../../../src/errors.ts";
import { readMcpServers } from "../../../src/runtime/mcp/mcp-config.ts";

function read(section: { [name: string]: unknown }) {
  const problems: Problem[] = [];
  const servers = readMcpServers(section, { file: "troupe.yaml", dir: "/etc/troupe", problems });
  return { servers, problems: problems.map(describeProblem) };
}

test("a process and an HTTP server are read with every default", () => {
  const { servers, problems } = read({
    files: { command: "npx", args: ["files"], cwd: "data" },
    web: { url: "https://example.org/mcp", timeoutMs: 5_000, tools: { "get_*": { effect: "read", retry: {} } } },
  });
  expect(problems).toEqual([]);
  expect(servers.get("files")).toEqual({
    name: "files",
    reach: { by: "process", command: "npx", args: ["files"], env: {}, inheritEnv: [], cwd: "/etc/troupe/data" },
    allow: ["*"],
    deny: [],
    startTimeoutMs: 30_000,
    tools: [],
  });
  expect(servers.get("web")).toMatchObject({
    reach: { by: "http", url: new URL("https://example.org/mcp"), headers: {}, headersEnv: {} },
    timeoutMs: 5_000,
    tools: [
      [
        "get_*",
        { effect: "read", retry: { maxAttempts: 1, backoff: "exponential", delayMs: 500, maxDelayMs: 30_000 } },
      ],
    ],
  });
});

test("everything that is wrong is told at once, and nothing of a secret", () => {
  const { servers, problems } = read({
    "two words": { command: "x" },
    both: { command: "x", url: "https://example.org" },
    neither: {},
    shell: { command: "x", enw: { KEY: "secret" }, args: "one two" },
    web: { url: "ftp://example.org", headers: { Authorization: { secret: 1 } } },
    transfer_to_a: { command: "x" },
    git: { command: "x", tools: { push: { effect: "read", onUnknown: "stop" } } },
    git_hub: { command: "x" },
  });
  expect([...servers.keys()]).toEqual([]);
  expect(problems).toEqual([
    `troupe.yaml: mcpServers["two words"]: expected a name of 1 to 64 letters, digits, "-" or "_", got "two words"`,
    "troupe.yaml: mcpServers.both: expected either `command`, for a process, or `url`, for HTTP, got both",
    "troupe.yaml: mcpServers.neither: expected either `command`, for a process, or `url`, for HTTP, got {}",
    `troupe.yaml: mcpServers.shell.args: expected a list, got "one two"`,
    "troupe.yaml: mcpServers.shell.enw: expected one of the keys command, args, env, inheritEnv, cwd, allow, deny, " +
      "timeoutMs, startTimeoutMs, tools, got something else",
    `troupe.yaml: mcpServers.web.url: expected an http(s) URL, got "ftp://example.org"`,
    "troupe.yaml: mcpServers.web.headers.Authorization: expected text, got something else",
    `troupe.yaml: mcpServers.transfer_to_a: expected a name whose tools are not taken for handoffs (transfer_to_…), got "transfer_to_a"`,
    `troupe.yaml: mcpServers.git.tools.push.onUnknown: expected none, because only a tool whose effect is "once" is not executed again, got "stop"`,
    `troupe.yaml: mcpServers.git_hub: expected a name that does not begin with git_, as the tools of git do, got "git_hub"`,
  ]);
});
