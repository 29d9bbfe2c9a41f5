/**
 * Fan-out: a contract is split into its clauses, each is reviewed by two agents, some at once, and one writes the report. How
 * many clauses there are is known when the contract is.
 *
 *   node examples/contract-review.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { connect, defineAgent, defineWorkflow, serve } from "../src/index.ts";
import { rulesModel, say } from "../src/testing/index.ts";

const model = "gpt-5-mini";
const splitter = defineAgent({
  name: "splitter",
  model,
  instructions: "Split the contract into its clauses.",
  output: {
    type: "object",
    properties: { clauses: { type: "array", items: { type: "string" } } },
    required: ["clauses"],
    additionalProperties: false,
  },
});
const lawyer = defineAgent({ name: "lawyer", model, instructions: "Name the legal risk of the clause." });
const accountant = defineAgent({ name: "accountant", model, instructions: "Name the financial risk of the clause." });
const reporter = defineAgent({ name: "reporter", model, instructions: "Sum the risks up." });

const contract = defineWorkflow({
  name: "contract",
  steps: [
    { id: "split", agent: splitter },
    {
      id: "review",
      after: "split",
      forEach: "steps.split.output.clauses",
      concurrency: 4,
      // A clause that cannot be reviewed has `{error}` in its place.
      onError: "continue",
      steps: [
        { id: "law", agent: lawyer, input: "{{ item }}" },
        { id: "money", agent: accountant, input: "{{ item }}", when: "item.contains('€')" },
      ],
    },
    {
      id: "report",
      agent: reporter,
      after: "review",
      input: {
        reviews: "{{ steps.review.output.filter(review, !has(review.error)) }}",
        failed: "{{ steps.review.output.filter(review, has(review.error)).size() }}",
      },
    },
  ],
});

// Without a key the agents follow a script, so that you can try this at once.
const scripted = rulesModel([
  { agent: "splitter", reply: ({ lastUser }) => say({ clauses: lastUser.split("; ") }) },
  { agent: "lawyer", when: /^[a-z]/, reply: ({ lastUser }) => say(`${lastUser.length} letters of risk`) },
  { agent: "accountant", reply: ({ lastUser }) => say(`costs ${/\d+ €/.exec(lastUser)?.[0]}`) },
  { agent: "reporter", reply: ({ lastUser }) => say(lastUser) },
]);

// Starts a nats-server with its store in .troupe/contract-review, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [splitter, lawyer, accountant, reporter],
  workflows: [contract],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/contract-review", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

const { runId } = await client.start("contract", "rent is 900 €; pets are allowed; (illegible); late fee is 50 €");
console.log(await client.result(runId));
const { progress } = await client.get(runId);
console.log(`${progress.completed} of ${progress.total}`);

await client.close();
await daemon.drain();

// {"reviews":[{"law":"13 letters of risk","money":"costs 900 €"},{"law":"16 letters of risk"},{"law":"16 letters of risk","money":"costs 50 €"}],"failed":1}
// 15 of 15
