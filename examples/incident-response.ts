/**
 * Incident response: an alert is triaged; before anything is restarted a person has to agree, and the run waits for that as long
 * as it takes, over restarts of the daemon too. Then it waits for the monitoring to say that all is well, and a report is
 * written by a workflow of its own.
 *
 *   node examples/incident-response.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { z } from "zod";
import { connect, defineAgent, defineTool, defineWorkflow, serve } from "../src/index.ts";
import { rulesModel, say } from "../src/testing/index.ts";

const model = "gpt-5-mini";
const triage = defineAgent({
  name: "triage",
  model,
  instructions: "Name the service that is broken, and how bad it is.",
  output: {
    type: "object",
    properties: { service: { type: "string" }, severity: { type: "string", enum: ["low", "high"] } },
    required: ["service", "severity"],
    additionalProperties: false,
  },
});
const scribe = defineAgent({
  name: "scribe",
  model,
  instructions: "Write the report of an incident, in one sentence.",
});
const restart = defineTool({
  name: "restart",
  description: "Restarts a service.",
  parameters: z.object({ service: z.string() }),
  execute: ({ service }) => `${service} restarted`,
});

const report = defineWorkflow({ name: "report", agents: [scribe] });
const incident = defineWorkflow({
  name: "incident",
  steps: [
    { id: "triage", agent: triage },
    {
      id: "approve",
      after: "triage",
      when: "steps.triage.output.severity == 'high'",
      approval: {
        title: "Restart {{ steps.triage.output.service }}?",
        prompt: "The alert said: {{ input }}",
        assignees: ["ada", "grace"],
        // Who sleeps agrees to nothing.
        timeoutMs: 15 * 60_000,
        onTimeout: "reject",
      },
    },
    {
      id: "restart",
      tool: restart,
      after: "approve",
      when: "steps.approve.output.choice == 'approve'",
      input: { service: "{{ steps.triage.output.service }}" },
    },
    {
      id: "recovered",
      after: "restart",
      wait: { signal: "healthy", schema: z.object({ checks: z.number() }), timeoutMs: 10 * 60_000 },
    },
    {
      id: "report",
      workflow: "report",
      after: ["approve", "recovered"],
      needs: "any",
      input: "{{ input }}, decided by {{ steps.approve.output.by }}: {{ steps.approve.output.choice }}",
    },
  ],
});

// Without a key the agents follow a script, so that you can try this at once.
const scripted = rulesModel([
  { agent: "triage", reply: say({ service: "checkout", severity: "high" }) },
  { agent: "scribe", reply: ({ lastUser }) => say(`Report: ${lastUser}`) },
]);

// Starts a nats-server with its store in .troupe/incident-response, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [triage, scribe],
  tools: { restart },
  workflows: [incident, report],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/incident-response", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

/** Asks until there is an answer. */
async function until<T>(ask: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

for (const [runId, choice] of [
  ["alert-1", "approve"],
  ["alert-2", "reject"],
] as const) {
  await client.start("incident", "checkout answers with 500", { runId });
  const asked = await until(async () => (await client.approvals()).find((approval) => approval.runId === runId));
  console.log(`${runId} asks: ${asked.title} (${asked.choices.join(" or ")})`);
  await client.approve(runId, { choice, by: "ada" });
  // Whoever is second is told.
  await client.approve(runId, { choice: "approve", by: "grace" }).catch((error) => console.log(error.code));
  if (choice === "approve") {
    await until(async () => (await client.get(runId)).current.find(({ step }) => step === "recovered"));
    await client.signal(runId, "healthy", { checks: "all" }).catch((error) => console.log(error.message));
    await client.signal(runId, "healthy", { checks: 3 });
  }
  console.log(await client.result(runId));
  const { steps } = await client.get(runId);
  console.log(steps.map(({ id, status }) => `${id} ${status}`).join(", "));
}

await client.close();
await daemon.drain();

// alert-1 asks: Restart checkout? (approve or reject)
// already_decided
// payload: checks: expected a number, got "all"
// Report: checkout answers with 500, decided by ada: approve
// triage completed, approve completed, restart completed, recovered completed, report completed
// alert-2 asks: Restart checkout? (approve or reject)
// already_decided
// Report: checkout answers with 500, decided by ada: reject
// triage completed, approve completed, restart skipped, recovered skipped, report completed
