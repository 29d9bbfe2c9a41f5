/**
 * A loop: a text is written and scored, and written again with the critic's advice, until the score is above 0.8.
 *
 *   node examples/refine-loop.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { connect, defineAgent, defineWorkflow, serve } from "../src/index.ts";
import { rulesModel, say } from "../src/testing/index.ts";

const model = "gpt-5-mini";
const writer = defineAgent({ name: "writer", model, instructions: "Write one sentence. Follow the advice, if any." });
const critic = defineAgent({
  name: "critic",
  model,
  instructions: "Score the sentence from 0 to 1 and say what would make it better.",
  output: {
    type: "object",
    properties: { text: { type: "string" }, score: { type: "number" }, advice: { type: "string" } },
    required: ["text", "score", "advice"],
    additionalProperties: false,
  },
});

const slogan = defineWorkflow({
  name: "slogan",
  steps: [
    {
      id: "refine",
      // `last` is what the iteration before gave: here what the critic said.
      repeat: { until: "output.score > 0.8", max: 3 },
      steps: [
        { id: "write", agent: writer, input: "{{ input }}: {{ last == null ? 'no advice yet' : last.advice }}" },
        { id: "score", agent: critic, after: "write", input: "{{ steps.write.output }}" },
      ],
    },
    {
      id: "publish",
      agent: writer,
      after: "refine",
      input: "publish {{ steps.refine.exhausted ? 'the best there is' : 'gladly' }}: {{ steps.refine.output.text }}",
    },
  ],
});

// Without a key the agents follow a script, so that you can try this at once.
const judged = (text: string, score: number, advice: string) => say({ text, score, advice });
const scripted = rulesModel([
  { agent: "writer", when: /^publish/, reply: ({ lastUser }) => say(lastUser) },
  { agent: "writer", when: /shorter/, reply: say("Tea. Warm.") },
  { agent: "writer", reply: say("Tea is a drink that is warm.") },
  { agent: "critic", when: /Warm\./, reply: ({ lastUser }) => judged(lastUser, 0.9, "") },
  { agent: "critic", reply: ({ lastUser }) => judged(lastUser, 0.4, "make it shorter") },
]);

// Starts a nats-server with its store in .troupe/refine-loop, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [writer, critic],
  workflows: [slogan],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/refine-loop", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

const { runId } = await client.start("slogan", "tea");
console.log(await client.result(runId));
const { steps } = await client.get(runId);
console.log(steps.map(({ id, status }) => `${id} ${status}`).join("\n"));

await client.close();
await daemon.drain();

// publish gladly: Tea. Warm.
// refine completed
// refine/0 completed
// refine/0/write completed
// refine/0/score completed
// refine/1 completed
// refine/1/write completed
// refine/1/score completed
// publish completed
