/**
 * Three reviewers work on the same text at the same time; what they say is put together, also where one of them fails.
 *
 *   node examples/parallel-review.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { connect, defineAgent, defineWorkflow, serve } from "../src/index.ts";
import { fail, rulesModel, say } from "../src/testing/index.ts";

const model = "gpt-5-mini";
const reviewers = ["style", "facts", "law"].map((name) =>
  defineAgent({ name, model, instructions: `Review the text for ${name}. Answer in one sentence.` }),
);
const chief = defineAgent({ name: "chief", model, instructions: "Sum up what the reviewers said." });

const review = defineWorkflow({
  name: "review",
  steps: [
    // Nothing stands between them, so they run in parallel; a review that cannot be had does not stop the others.
    ...reviewers.map(({ name }) => ({ id: name, agent: name, onError: "continue" })),
    {
      id: "verdict",
      agent: chief,
      after: reviewers.map(({ name }) => name),
      needs: "any" as const,
      input: {
        style: "{{ steps.style.?output.orValue('no review') }}",
        facts: "{{ steps.facts.?output.orValue('no review') }}",
        law: "{{ steps.law.status == 'failed' ? steps.law.error.code : steps.law.output }}",
      },
    },
  ],
});

// Without a key the agents follow a script, so that you can try this at once.
const scripted = rulesModel([
  { agent: "style", reply: say("Too many commas.") },
  { agent: "facts", reply: say("All true.") },
  { agent: "law", reply: fail(new Error("the reviewer is ill")) },
  { agent: "chief", reply: ({ lastUser }) => say(`Verdict on ${lastUser}`) },
]);

// Starts a nats-server with its store in .troupe/parallel-review, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [...reviewers, chief],
  workflows: [review],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/parallel-review", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

const { runId } = await client.start("review", "Bees, as we know, dance.");
console.log(await client.result(runId));
const { steps } = await client.get(runId);
for (const { id, status, error } of steps) console.log(`${id}: ${status}${error ? ` (${error.message})` : ""}`);

await client.close();
await daemon.drain();

// Verdict on {"style":"Too many commas.","facts":"All true.","law":"model_failed"}
// style: completed
// facts: completed
// law: failed (the reviewer is ill)
// verdict: completed
