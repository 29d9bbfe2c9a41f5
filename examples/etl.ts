/**
 * Extract, validate, transform, enrich, load: four of the steps run tools, without a model; only what needs judgement is an
 * agent's. What a step gives goes to the next as it is.
 *
 *   node examples/etl.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { z } from "zod";
import { connect, defineAgent, defineTool, defineWorkflow, serve } from "../src/index.ts";
import { rulesModel, say } from "../src/testing/index.ts";

const row = z.object({ id: z.number(), name: z.string(), note: z.string() });
const rows = z.object({ rows: z.array(row) });

const extract = defineTool({
  name: "extract",
  description: "Reads the rows of a file.",
  parameters: z.object({ file: z.string() }),
  execute: ({ file }) => ({
    rows: [
      { id: 1, name: " ada ", note: "never had a problem, thank you" },
      { id: 2, name: "", note: "who are you?" },
      { id: 3, name: "grace", note: `the export ${file} was late again` },
    ],
  }),
});
const validate = defineTool({
  name: "validate",
  description: "Keeps rows with a name.",
  parameters: rows,
  execute: ({ rows }) => ({
    rows: rows.filter(({ name }) => name.trim() !== ""),
    dropped: rows.filter((r) => !r.name),
  }),
});
const transform = defineTool({
  name: "transform",
  description: "Writes names in one way.",
  parameters: rows,
  execute: ({ rows }) => ({ rows: rows.map((r) => ({ ...r, name: r.name.trim().toUpperCase() })) }),
});
/** Stands in for a table. A real one would be given the key, so that what is stored twice is stored once. */
const table = new Map<string, unknown>();
const load = defineTool({
  name: "load",
  description: "Stores rows with their moods.",
  parameters: rows.extend({ moods: z.array(z.string()) }),
  execute({ rows, moods }, { idempotencyKey }) {
    table.set(
      idempotencyKey,
      rows.map(({ name }, i) => `${name} is ${moods[i]}`),
    );
    return { stored: rows.length };
  },
});

const judge = defineAgent({
  name: "judge",
  model: "gpt-5-mini",
  instructions: "Say for each note, in its order, whether its author is happy or cross.",
  output: {
    type: "object",
    properties: { moods: { type: "array", items: { type: "string", enum: ["happy", "cross"] } } },
    required: ["moods"],
    additionalProperties: false,
  },
});

const etl = defineWorkflow({
  name: "etl",
  input: z.object({ file: z.string() }),
  steps: [
    { id: "extract", tool: extract },
    { id: "validate", tool: validate, after: "extract" },
    { id: "transform", tool: transform, after: "validate" },
    { id: "enrich", agent: judge, after: "transform", input: "{{ steps.transform.output.rows.map(r, r.note) }}" },
    {
      id: "load",
      tool: load,
      after: "enrich",
      input: { rows: "{{ steps.transform.output.rows }}", moods: "{{ steps.enrich.output.moods }}" },
      retry: { maxAttempts: 5 },
    },
  ],
});

// Without a key the agent follows a script, so that you can try this at once.
const scripted = rulesModel([{ agent: "judge", reply: say({ moods: ["happy", "cross"] }) }]);

// Starts a nats-server with its store in .troupe/etl, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [judge],
  tools: { extract, validate, transform, load },
  workflows: [etl],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/etl", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

const { runId } = await client.start("etl", { file: "customers.csv" }, { runId: "nightly-7" });
console.log(JSON.stringify(await client.result(runId)));
const { steps, usage } = await client.get(runId);
console.log(`${steps.map(({ id, kind = "agent" }) => `${id} (${kind})`).join(" → ")}, ${usage.modelCalls} model call`);
for (const [key, stored] of table) console.log(`${key}: ${JSON.stringify(stored)}`);

await client.close();
await daemon.drain();

// {"stored":2}
// extract (tool) → validate (tool) → transform (tool) → enrich (agent) → load (tool), 1 model call
// nightly-7.load-1: ["ADA is happy","GRACE is cross"]
