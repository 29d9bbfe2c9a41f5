/**
 * A real MCP server for tests, over stdio, or with a port as its argument over streamable HTTP. Calls of `note` and `hang` are
 * written to the file `MCP_LEDGER`, one line each.
 */
import { appendFileSync } from "node:fs";
import { createServer } from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";

const LEDGER = process.env.MCP_LEDGER;
const READS = { annotations: { readOnlyHint: true } };

function text(words: string) {
  return { content: [{ type: "text" as const, text: words }] };
}

function note(what: string) {
  if (LEDGER !== undefined) appendFileSync(LEDGER, `${what}\n`);
}

/** One server with all its tools; over HTTP there is one for each session. */
function makeServer(): McpServer {
  const server = new McpServer({ name: "test", version: "1" }, { capabilities: { logging: {} } });
  server.registerTool(
    "echo",
    { description: "Says it again.", inputSchema: { text: z.string() }, ...READS },
    ({ text: words }) => text(words),
  );
  server.registerTool(
    "add",
    { inputSchema: { a: z.number(), b: z.number() }, outputSchema: { sum: z.number() }, ...READS },
    ({ a, b }) => ({ ...text(JSON.stringify({ sum: a + b })), structuredContent: { sum: a + b } }),
  );
  server.registerTool("fail", { description: "Fails.", ...READS }, () => ({ ...text("no such shelf"), isError: true }));
  server.registerTool("picture", { description: "Shows.", ...READS }, () => ({
    content: [
      { type: "text", text: "a dot" },
      { type: "image", data: Buffer.alloc(12).toString("base64"), mimeType: "image/png" },
      { type: "resource", resource: { uri: "file:///a.txt", text: "words in a file" } },
      { type: "resource_link", uri: "file:///b.txt", name: "b" },
    ],
  }));
  server.registerTool("variables", { description: "Tells its environment.", ...READS }, () =>
    text(JSON.stringify(process.env)),
  );
  server.registerTool(
    "note",
    { description: "Writes.", inputSchema: { what: z.string() } },
    async ({ what }, extra) => {
      note(`${what} ${extra._meta?.["troupe/idempotencyKey"]}`);
      await server.sendLoggingMessage({ level: "warning", data: `noted ${what}` });
      return text(`noted ${what}`);
    },
  );
  server.registerTool("hang", { description: "Hangs.", inputSchema: { what: z.string() } }, async ({ what }, extra) => {
    note(`${what} ${extra._meta?.["troupe/idempotencyKey"]}`);
    const progressToken = extra._meta?.progressToken;
    if (progressToken !== undefined) {
      const params = { progressToken, progress: 1, total: 4, message: "a quarter" };
      await extra.sendNotification({ method: "notifications/progress", params });
    }
    await new Promise<void>((resolve) => extra.signal.addEventListener("abort", () => resolve()));
    note(`cancelled ${what}`);
    return text("too late");
  });
  server.registerTool("die", { description: "Ends the server.", ...READS }, () => process.exit(1));
  server.registerTool("grow", { description: "Makes a tool.", ...READS }, () => {
    server.registerTool("grown", { description: "Is new.", ...READS }, () => text("I am new"));
    return text("grown");
  });
  return server;
}

const port = process.argv[2];
note(`pid ${process.pid}`);
process.stderr.write("the test server is up\n");
if (port === undefined) await makeServer().connect(new StdioServerTransport());
else serveHttp(Number(port));

function serveHttp(port: number): void {
  const sessions = new Map<string, StreamableHTTPServerTransport>();
  const http = createServer(async (request, response) => {
    if (request.headers.authorization !== "Bearer open") return void response.writeHead(401).end("who are you?");
    if (request.method === "GET" && process.env.MCP_NO_STREAM) return void response.writeHead(405).end();
    const id = request.headers["mcp-session-id"];
    let transport = typeof id === "string" ? sessions.get(id) : undefined;
    if (id !== undefined && !transport) return void response.writeHead(404).end("no such session");
    if (!transport) {
      const made = new StreamableHTTPServerTransport({
        sessionIdGenerator: () => crypto.randomUUID(),
        onsessioninitialized: (session) => void sessions.set(session, made),
        onsessionclosed: (session) => void sessions.delete(session),
      });
      transport = made;
      // The SDK's transport allows what its own type of one does not: callbacks that are undefined.
      await makeServer().connect(made as Parameters<McpServer["connect"]>[0]);
    }
    await transport.handleRequest(request, response);
  });
  http.listen(port, "127.0.0.1", () => process.stdout.write(`${JSON.stringify(http.address())}\n`));
}
