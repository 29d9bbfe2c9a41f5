/**
 * A saga: flight, hotel and card, and when the card is declined, the hotel and the flight are given back.
 *
 *   node examples/travel-saga.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { connect, defineAgent, defineWorkflow, serve } from "../src/index.ts";
import { rulesModel, say } from "../src/testing/index.ts";

const model = "gpt-5-mini";
const travel = defineAgent({ name: "travel", model, instructions: "Book and cancel flights." });
const rooms = defineAgent({ name: "rooms", model, instructions: "Book and cancel hotel rooms." });
const cashier = defineAgent({
  name: "cashier",
  model,
  instructions: "Charge the card.",
  output: {
    type: "object",
    properties: { paid: { type: "boolean" } },
    required: ["paid"],
    additionalProperties: false,
  },
});
const clerk = defineAgent({ name: "clerk", model, instructions: "Tell the customer in one sentence." });

const trip = defineWorkflow({
  name: "trip",
  defaults: { retry: { maxAttempts: 3, delayMs: 100, on: ["rate_limited", "provider_unavailable", "timeout"] } },
  steps: [
    {
      id: "flight",
      agent: travel,
      input: "Book a flight to {{ input.city }}.",
      compensate: { agent: travel, input: "Give {{ output }} back." },
    },
    {
      id: "hotel",
      agent: rooms,
      after: "flight",
      input: "Book a room in {{ input.city }}.",
      compensate: { agent: rooms, input: "Give {{ output }} back." },
    },
    {
      id: "card",
      agent: cashier,
      after: "hotel",
      input: "Charge the card {{ input.card }}.",
      // What does not fit has failed, and with it the run.
      output: { type: "object", properties: { paid: { const: true } }, required: ["paid"] },
    },
  ],
  onFailure: [{ id: "tell", agent: clerk, input: "No trip to {{ input.city }}: {{ error.step }} failed." }],
});

// Without a key the agents follow a script, so that you can try this at once.
const scripted = rulesModel([
  { agent: "travel", when: /^Book/, reply: say("flight 7") },
  { agent: "rooms", when: /^Book/, reply: say("room 12") },
  { when: /^Give/, reply: ({ lastUser }) => say(lastUser.replace(/^Give (.*) back\.$/, "$1 is cancelled")) },
  { agent: "cashier", when: /gold/, reply: say({ paid: true }) },
  { agent: "cashier", reply: say({ paid: false }) },
  { agent: "clerk", reply: ({ lastUser }) => say(`We are sorry. ${lastUser}`) },
]);

// Starts a nats-server with its store in .troupe/travel-saga, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [travel, rooms, cashier, clerk],
  workflows: [trip],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/travel-saga", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

for (const card of ["gold", "blue"]) {
  const { runId } = await client.start("trip", { city: "Oslo", card });
  await client.result(runId).catch((error: Error) => console.log(error.message.replace(runId, card)));
  const { status, steps, compensations } = await client.get(runId);
  console.log(
    `${card}: ${status}; ${steps.map(({ id, output = "–" }) => `${id}: ${JSON.stringify(output)}`).join(", ")}`,
  );
  for (const { step, output } of compensations) console.log(`${step} undone: ${output}`);
}

await client.close();
await daemon.drain();

// gold: completed; flight: "flight 7", hotel: "room 12", card: {"paid":true}
// run blue failed: step card: output: paid: expected true, got false
// blue: failed; flight: "flight 7", hotel: "room 12", card: "–", onFailure/tell: "We are sorry. No trip to Oslo: card failed."
// hotel undone: room 12 is cancelled
// flight undone: flight 7 is cancelled
