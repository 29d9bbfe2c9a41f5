/**
 * Leads are looked up and scored. Good ones get an offer, fair ones a letter, and the others nothing.
 *
 *   node examples/lead-qualification.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { connect, defineAgent, defineWorkflow, serve } from "../src/index.ts";
import { rulesModel, say } from "../src/testing/index.ts";

const model = "gpt-5-mini";
const enricher = defineAgent({
  name: "enricher",
  model,
  instructions: "Say what is known of the company.",
  output: {
    type: "object",
    properties: { employees: { type: "integer" }, country: { type: "string" } },
    required: ["employees", "country"],
    additionalProperties: false,
  },
});
const scorer = defineAgent({
  name: "scorer",
  model,
  instructions: "Score the lead from 0 to 1.",
  output: {
    type: "object",
    properties: { score: { type: "number" } },
    required: ["score"],
    additionalProperties: false,
  },
});
const sales = defineAgent({ name: "sales", model, instructions: "Write to the customer, in one sentence." });

const lead = defineWorkflow({
  name: "lead",
  steps: [
    { id: "enrich", agent: enricher, input: "{{ input.company }}" },
    { id: "score", agent: scorer, after: "enrich", when: "steps.enrich.output.employees >= 10" },
    {
      id: "offer",
      agent: sales,
      after: "score",
      when: "steps.score.output.score > 0.8",
      input: "An offer for {{ input.company }} in {{ steps.enrich.output.country }}",
    },
    {
      id: "letter",
      agent: sales,
      after: "score",
      when: "steps.score.output.score > 0.4 && steps.score.output.score <= 0.8",
      input: "A letter to {{ input.company }}",
    },
  ],
});

// Without a key the agents follow a script, so that you can try this at once.
const scripted = rulesModel([
  { agent: "enricher", when: /Corner Shop/, reply: say({ employees: 2, country: "France" }) },
  { agent: "enricher", when: /Acme/, reply: say({ employees: 400, country: "Italy" }) },
  { agent: "enricher", reply: say({ employees: 30, country: "Spain" }) },
  { agent: "scorer", reply: ({ lastUser }) => say({ score: lastUser.includes("400") ? 0.9 : 0.5 }) },
  { agent: "sales", reply: ({ lastUser }) => say(`${lastUser}.`) },
]);

// Starts a nats-server with its store in .troupe/lead-qualification, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [enricher, scorer, sales],
  workflows: [lead],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/lead-qualification", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

for (const company of ["Corner Shop", "Acme", "Initech"]) {
  const { runId } = await client.start("lead", { company });
  const output = await client.result(runId);
  const { steps } = await client.get(runId);
  console.log(`${company}: ${steps.map(({ id, status }) => `${id} ${status}`).join(", ")}`);
  console.log(JSON.stringify(output));
}

await client.close();
await daemon.drain();

// Corner Shop: enrich completed, score skipped, offer skipped, letter skipped
// null
// Acme: enrich completed, score completed, offer completed, letter skipped
// {"offer":"An offer for Acme in Italy."}
// Initech: enrich completed, score completed, offer skipped, letter completed
// {"letter":"A letter to Initech."}
