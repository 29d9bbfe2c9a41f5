/**
 * A message is classified, and goes the way its class says; what fits nowhere goes to a person's desk.
 *
 *   node examples/classify.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { connect, defineAgent, defineWorkflow, serve } from "../src/index.ts";
import { rulesModel, say } from "../src/testing/index.ts";

const model = "gpt-5-mini";
const classifier = defineAgent({
  name: "classifier",
  model,
  instructions: "Say whether the message is about a bill, about a fault, or about something else.",
  output: {
    type: "object",
    properties: { topic: { type: "string", enum: ["bill", "fault", "other"] } },
    required: ["topic"],
    additionalProperties: false,
  },
});
const billing = defineAgent({ name: "billing", model, instructions: "Answer questions about bills." });
const tech = defineAgent({ name: "tech", model, instructions: "Help with faults." });
const desk = defineAgent({ name: "desk", model, instructions: "Write a note to the person at the desk." });

const support = defineWorkflow({
  name: "support",
  steps: [
    {
      id: "classify",
      agent: classifier,
      switch: { on: "steps.classify.output.topic", cases: { bill: "bill", fault: "fault" }, default: "other" },
    },
    { id: "bill", agent: billing, input: "{{ input }}" },
    { id: "fault", agent: tech, input: "{{ input }}" },
    { id: "other", agent: desk, input: "{{ input }}" },
  ],
});

// Without a key the agents follow a script, so that you can try this at once.
const scripted = rulesModel([
  { agent: "classifier", when: /charged/, reply: say({ topic: "bill" }) },
  { agent: "classifier", when: /broken/, reply: say({ topic: "fault" }) },
  { agent: "classifier", reply: say({ topic: "other" }) },
  { agent: "billing", reply: say("You get the second charge back.") },
  { agent: "tech", reply: say("Turn it off and on again.") },
  { agent: "desk", reply: say("Somebody sends flowers.") },
]);

// Starts a nats-server with its store in .troupe/classify, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [classifier, billing, tech, desk],
  workflows: [support],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/classify", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

for (const message of ["I was charged twice.", "It is broken.", "You are lovely."]) {
  const { runId } = await client.start("support", message);
  console.log(`${message} ${JSON.stringify(await client.result(runId))}`);
}

await client.close();
await daemon.drain();

// I was charged twice. {"bill":"You get the second charge back."}
// It is broken. {"fault":"Turn it off and on again."}
// You are lovely. {"other":"Somebody sends flowers."}
