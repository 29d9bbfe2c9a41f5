/** A configuration for tests of the command line: agents that answer at once, never, or wrongly. */

export const CLI_FILES = {
  "troupe.yaml": `
providers:
  scripted: { module: ./model.ts }
agents:
  echo:  { instructions: Say it again., model: test, provider: scripted }
  loud:  { instructions: Shout., model: test, provider: scripted }
  never: { instructions: Wait., model: test, provider: scripted }
  wrong: { instructions: Fail., model: test, provider: scripted }
  first: { instructions: Hand over., model: test, provider: scripted, handoffs: [echo], description: Takes the call. }
workflows:
  repeat: { agents: [echo, loud], description: Twice. }
  single: { agents: [echo] }
  wait:   { agents: [never] }
  broken: { agents: [echo, wrong] }
  phone:  { entry: first, agents: [first, echo] }
`,
  "model.ts": `
import { ModelError } from "troupe";
import { fail, handOff, rulesModel, say } from "troupe/testing";

export default rulesModel([
  { agent: "first", reply: handOff("echo", { reason: "a call" }) },
  { agent: "echo", reply: (s) => say("echo of " + s.lastUser) },
  { agent: "loud", reply: say({ loud: "\\u001b[31mYES" }) },
  { agent: "never", reply: { ...say("late"), delayMs: 600_000 } },
  { agent: "wrong", reply: fail(new ModelError("refused", "the model does not want to", { retryable: false })) },
]);
`,
};
