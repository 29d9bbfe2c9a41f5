/**
 * A whole Troupe in one program: two agents, a workflow, the daemon that serves them, and a run.
 *
 *   node examples/hello.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { connect, defineAgent, defineWorkflow, serve } from "../src/index.ts";
import { rulesModel, say } from "../src/testing/index.ts";

const researcher = defineAgent({
  name: "researcher",
  model: "gpt-5-mini",
  instructions: "Give three facts about the topic, one per line.",
});
const writer = defineAgent({
  name: "writer",
  model: "gpt-5-mini",
  instructions: "Write one sentence that uses the facts you are given.",
});
const hello = defineWorkflow({ name: "hello", agents: [researcher, writer] });

// Without a key the agents follow a script, so that you can try this at once.
const scripted = rulesModel([
  { agent: "researcher", reply: say("Tea is a plant.\nTea is a drink.\nTea is a habit.") },
  { agent: "writer", reply: say("Tea is a plant, a drink, and a habit.") },
]);

// Starts a nats-server with its store in .troupe/hello, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [researcher, writer],
  workflows: [hello],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/hello", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

const { runId } = await client.start("hello", "tea");
for await (const event of client.events(runId, { live: false })) {
  if (event.type === "step.completed") console.log(`${event.data.step} is done`);
}
console.log(await client.result(runId));

await client.close();
await daemon.drain();

// researcher is done
// writer is done
// Tea is a plant, a drink, and a habit.
