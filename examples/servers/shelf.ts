/** A small MCP server, as examples/mcp.ts starts it: a shelf of books, to search and to borrow from. */
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";

const books = new Map([
  ["B-1", "The Tea Ceremony"],
  ["B-2", "Tea, a History"],
  ["B-3", "Bees and Flowers"],
]);

const server = new McpServer({ name: "shelf", version: "1.0.0" });

server.registerTool(
  "search",
  {
    description: "Finds books by a word of their title.",
    inputSchema: { word: z.string().min(1) },
    annotations: { readOnlyHint: true },
  },
  ({ word }) => {
    const found = [...books].filter(([, title]) => title.toLowerCase().includes(word.toLowerCase()));
    return { content: [{ type: "text", text: found.map(([id, title]) => `${id}: ${title}`).join("\n") || "nothing" }] };
  },
);

server.registerTool("borrow", { description: "Borrows a book.", inputSchema: { id: z.string() } }, ({ id }) => {
  const title = books.get(id);
  if (title === undefined) return { content: [{ type: "text", text: `There is no book ${id} here.` }], isError: true };
  books.delete(id);
  return { content: [{ type: "text", text: `${title} is yours for four weeks.` }] };
});

await server.connect(new StdioServerTransport());
