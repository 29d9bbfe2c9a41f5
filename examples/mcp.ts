/**
 * Tools of an MCP server: an agent looks for a book and borrows it, at a server that the daemon starts and ends.
 *
 *   node examples/mcp.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { fileURLToPath } from "node:url";
import { connect, defineAgent, defineWorkflow, serve } from "../src/index.ts";
import { callTool, rulesModel, say } from "../src/testing/index.ts";

const librarian = defineAgent({
  name: "librarian",
  model: "gpt-5-mini",
  instructions: "Find the book that is asked for and borrow it. Say what you have borrowed.",
  // Its model knows them as shelf_search and shelf_borrow. `["shelf.search"]` would be only the one.
  mcp: ["shelf"],
});
const lending = defineWorkflow({ name: "lending", agents: [librarian] });

const scripted = rulesModel([
  { agent: "librarian", afterTool: "shelf_borrow", reply: ({ toolResults }) => say(toolResults.at(-1)?.content) },
  { agent: "librarian", afterTool: "shelf_search", reply: callTool("shelf_borrow", { id: "B-2" }) },
  { agent: "librarian", reply: callTool("shelf_search", { word: "history" }) },
]);

const daemon = await serve({
  agents: [librarian],
  workflows: [lending],
  mcpServers: {
    shelf: {
      command: process.execPath,
      args: [fileURLToPath(new URL("./servers/shelf.ts", import.meta.url))],
      // The server does not say whether borrowing twice is more than borrowing once, so it is never done again by itself.
      tools: { search: { retry: { maxAttempts: 3 } } },
    },
  },
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/mcp", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

console.log(await client.run("lending", "a history of tea"));
for (const { name, mcp } of await client.agents()) console.log(`${name} has the tools of ${mcp?.join(", ")}`);

await client.close();
await daemon.drain();

// Tea, a History is yours for four weeks.
// librarian has the tools of shelf
