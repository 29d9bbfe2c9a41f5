/**
 * A nightly schedule: every morning at three in Berlin a report is written, whichever daemon is there; and so that there is
 * something to see now, a reminder that goes out in a second.
 *
 *   node examples/nightly.ts
 *
 * Outside of this checkout the two imports are `troupe` and `troupe/testing`.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { connect, defineAgent, defineWorkflow, serve } from "../src/index.ts";
import { rulesModel, say } from "../src/testing/index.ts";

const model = "gpt-5-mini";
const reporter = defineAgent({ name: "reporter", model, instructions: "Write the report of the day before." });
const clerk = defineAgent({ name: "clerk", model, instructions: "Remind whoever it says, in one sentence." });

const report = defineWorkflow({
  name: "report",
  agents: [reporter],
  // Days on which clocks are changed have one report as well. What was missed while all were down is made up for once.
  schedule: { cron: "0 3 * * *", timezone: "Europe/Berlin" },
});
const remind = defineWorkflow({
  name: "remind",
  steps: [{ id: "mail", agent: clerk, input: "Remind {{ input.who }} of {{ input.what }}." }],
});

// Without a key the agents follow a script, so that you can try this at once.
const scripted = rulesModel([{ agent: "clerk", reply: ({ lastUser }) => say(`Dear all: ${lastUser}`) }]);

// Starts a nats-server with its store in .troupe/nightly, unless NATS_URL says where one is.
const daemon = await serve({
  agents: [reporter, clerk],
  workflows: [report, remind],
  providers: process.env.OPENAI_API_KEY ? {} : { openai: scripted },
  daemon: { data: ".troupe/nightly", httpPort: 0, logLevel: "warn" },
});
const client = await connect({ servers: daemon.natsUrl });

// Over the API, as `troupe schedules put` does; the same name again puts another one in its place.
const at = new Date(Date.now() + 1_000);
await client.putSchedule("tea-time", { workflow: "remind", at: at.toISOString(), input: { who: "Ada", what: "tea" } });

const named = async (name: string) => (await client.schedules()).find((schedule) => schedule.name === name);
let fired = (await named("tea-time"))?.last;
for (; !fired; fired = (await named("tea-time"))?.last) await sleep(100);
console.log(`due at the instant it was put for: ${fired.dueAt === at.toISOString()}`);
console.log(await client.result(fired.runId));

const next = new Date((await named("report"))?.next ?? "");
const inBerlin = next.toLocaleTimeString("en-GB", { timeZone: "Europe/Berlin", timeStyle: "short" });
console.log(`the next report is due at ${inBerlin} in Berlin`);

await client.close();
await daemon.drain();

// due at the instant it was put for: true
// Dear all: Remind Ada of tea.
// the next report is due at 03:00 in Berlin
