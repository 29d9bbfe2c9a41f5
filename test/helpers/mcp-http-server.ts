/** The MCP server of tests as a process of its own over streamable HTTP, which can be killed and started again on its port. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** What runs the server; over stdio without further arguments. */
export const MCP_SERVER = {
  command: process.execPath,
  args: [fileURLToPath(new URL("./mcp-server-main.ts", import.meta.url))],
};

export type McpHttpServer = {
  readonly url: string;
  kill(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** Starts the server, on any free port or on this one. */
export async function startMcpHttpServer(env: { [name: string]: string }, port = 0): Promise<McpHttpServer> {
  const child = spawn(MCP_SERVER.command, [...MCP_SERVER.args, String(port)], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const exited = once(child, "exit");
  const [line] = await once(child.stdout, "data");
  const address = JSON.parse(String(line)) as { port: number };
  const kill = async () => {
    child.kill("SIGKILL");
    await exited;
  };
  return { url: `http://127.0.0.1:${address.port}/mcp`, kill, [Symbol.asyncDispose]: kill };
}
