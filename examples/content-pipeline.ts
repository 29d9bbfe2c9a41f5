/**
 * A content pipeline: research, write, edit. Each step gets what the one before gave; the run's record has all of it.
 *
 *   node examples/content-pipeline.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { connect, defineAgent, defineWorkflow, serve } from "../src/index.ts";
import { rulesModel, say } from "../src/testing/index.ts";

const model = "gpt-5-mini";
const researcher = defineAgent({
  name: "researcher",
  model,
  instructions: "List facts about the topic, one per line.",
});
const writer = defineAgent({ name: "writer", model, instructions: "Write a paragraph from the facts you are given." });
const editor = defineAgent({ name: "editor", model, instructions: "Make the text shorter; keep what it says." });

const article = defineWorkflow({
  name: "article",
  input: {
    type: "object",
    properties: { topic: { type: "string" }, words: { type: "integer" } },
    required: ["topic", "words"],
    additionalProperties: false,
  },
  steps: [
    { id: "research", agent: researcher, input: "{{ input.topic }}" },
    { id: "write", agent: writer, after: "research", retry: { maxAttempts: 3 } },
    { id: "edit", agent: editor, after: "write", input: "At most {{ input.words }} words: {{ previous.output }}" },
  ],
});

// Without a key the agents follow a script, so that you can try this at once.
const scripted = rulesModel([
  { agent: "researcher", reply: say("Bees dance.\nThe dance says where flowers are.") },
  { agent: "writer", reply: say("Bees that come home dance, and the dance tells the others where the flowers are.") },
  { agent: "editor", reply: say("Bees dance the way to flowers.") },
]);

// Starts a nats-server with its store in .troupe/content-pipeline, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [researcher, writer, editor],
  workflows: [article],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/content-pipeline", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

const { runId } = await client.start("article", { topic: "bees", words: 6 });
await client.result(runId);
const { steps, progress, usage } = await client.get(runId);
for (const { id, output } of steps) console.log(`${id}: ${JSON.stringify(output)}`);
console.log(`${progress.percent} % done, ${usage.modelCalls} model calls`);

// With an id of one's own a request that is sent again is the same run.
const runOnce = { runId: "bees-without-words" };
await client.start("article", { topic: "bees" }, runOnce);
await client.result(runOnce.runId).catch((error: Error) => console.log(error.message));

await client.close();
await daemon.drain();

// research: "Bees dance.\nThe dance says where flowers are."
// write: "Bees that come home dance, and the dance tells the others where the flowers are."
// edit: "Bees dance the way to flowers."
// 100 % done, 3 model calls
// run bees-without-words failed: input: words: expected a number, got nothing
