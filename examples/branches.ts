/**
 * Branches: an order is checked; what is valid is priced and confirmed, what is not is answered with what is missing.
 *
 *   node examples/branches.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { connect, defineAgent, defineWorkflow, serve } from "../src/index.ts";
import { rulesModel, say } from "../src/testing/index.ts";

const model = "gpt-5-mini";
const validator = defineAgent({
  name: "validator",
  model,
  instructions: "Check that the order names a product and a quantity. List what is missing.",
  output: {
    type: "object",
    properties: {
      result: { type: "string", enum: ["valid", "invalid"] },
      missing: { type: "array", items: { type: "string" } },
    },
    required: ["result", "missing"],
    additionalProperties: false,
  },
});
const pricing = defineAgent({ name: "pricing", model, instructions: "Look the price of the order up." });
const clerk = defineAgent({ name: "clerk", model, instructions: "Answer the customer in one sentence." });

const order = defineWorkflow({
  name: "order",
  steps: [
    { id: "validate", agent: validator },
    // The valid branch. When no price can be had, the order is confirmed without one.
    {
      id: "price",
      agent: pricing,
      after: "validate",
      when: "steps.validate.output.result == 'valid'",
      onError: "continue",
    },
    {
      id: "confirm",
      agent: clerk,
      after: "price",
      needs: "always",
      when: "steps.price.status != 'skipped'",
      input: "Confirm {{ input }}, {{ steps.price.?output.orValue('at a price to be told') }}.",
    },
    // The invalid branch.
    {
      id: "ask_back",
      agent: clerk,
      after: "validate",
      when: "steps.validate.output.result == 'invalid'",
      input: "Ask for {{ steps.validate.output.missing[0] }}.",
    },
  ],
});

// Without a key the agents follow a script, so that you can try this at once.
const scripted = rulesModel([
  { agent: "validator", when: /\d/, reply: say({ result: "valid", missing: [] }) },
  { agent: "validator", reply: say({ result: "invalid", missing: ["the quantity"] }) },
  { agent: "pricing", when: /tea/, reply: say("for 12 €") },
  { agent: "clerk", reply: ({ lastUser }) => say(`Dear customer: ${lastUser}`) },
]);

// Starts a nats-server with its store in .troupe/branches, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [validator, pricing, clerk],
  workflows: [order],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/branches", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

for (const input of ["3 boxes of tea", "some tea", "3 unicorns"]) {
  const { runId } = await client.start("order", input);
  const output = await client.result(runId);
  const { steps } = await client.get(runId);
  console.log(`${input}: ${steps.map(({ id, status }) => `${id} ${status}`).join(", ")}`);
  console.log(JSON.stringify(output));
}

await client.close();
await daemon.drain();

// 3 boxes of tea: validate completed, price completed, ask_back skipped, confirm completed
// {"confirm":"Dear customer: Confirm 3 boxes of tea, for 12 €."}
// some tea: validate completed, price skipped, ask_back completed, confirm skipped
// {"ask_back":"Dear customer: Ask for the quantity."}
// 3 unicorns: validate completed, price failed, ask_back skipped, confirm completed
// {"confirm":"Dear customer: Confirm 3 unicorns, at a price to be told."}
