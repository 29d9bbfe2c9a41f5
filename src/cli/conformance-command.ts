/** `troupe conformance`: checks a worker in any language. Its exit code is for CI. */
import type { Command } from "commander";
import { UsageError } from "../errors.ts";
import { asksDaemon, does } from "./cli-command.ts";
import { describeCheckList, describeConformance } from "./describe-conformance.ts";
import { durationFlag } from "./duration-flag.ts";
import { type Given, openBus } from "./open-client.ts";
import { print, printJson } from "./print.ts";
import { readInput } from "./read-input.ts";
import { COMPLETED, FAILED } from "./report-error.ts";

const HELP = `
Examples:
  troupe conformance --subject troupe.agents.shout
  troupe conformance --subject troupe.agents.shout --slow-input "slowly, please" --handoff-input "really?"
  troupe conformance --subject troupe.agents.shout --only accepted,outcome,cancel

It gives the worker some dozens of tasks of runs that do not exist, and the agent does them: give it an input that does no
harm. On NATS it needs the permissions of a daemon. Without --slow-input and --handoff-input some checks are skipped.

Exit code: 0 where no check failed, 1 where one did or nobody serves the mailbox, 2 for a mistake in the command.`;

type ConformanceGiven = Given & {
  subject?: string;
  only?: string[];
  input?: string;
  slowInput?: string;
  handoffInput?: string;
  acceptWithin?: number;
  aliveWithin?: number;
  doneWithin?: number;
  cancelledWithin?: number;
  listen?: number;
  list?: boolean;
  json?: boolean;
};

/** Adds the command to the program. */
export function addConformanceCommand(program: Command): void {
  const command = program
    .command("conformance")
    .description("Check a worker in another language against the NATS contract.")
    .option("--subject <subject>", "Its mailbox: <prefix>.agents.<agent>.")
    .option("--only <ids>", "Only these checks, with commas between.", (ids) => ids.split(","))
    .option("--input <input>", "Text or JSON that the agent can do. (default: conformance)")
    .option("--slow-input <input>", "One that takes it 6 to 20 seconds.")
    .option("--handoff-input <input>", "One that makes it hand over.")
    .option("--accept-within <duration>", "Until a task is accepted. (default: 1s)", durationFlag)
    .option("--alive-within <duration>", "Between signs of life of a task at work. (default: 15s)", durationFlag)
    .option("--done-within <duration>", "Until a task has its outcome. (default: 60s)", durationFlag)
    .option("--cancelled-within <duration>", "Until a cancelled task has its outcome. (default: 10s)", durationFlag)
    .option("--listen <duration>", "How long to listen for what must not be said. (default: 4s)", durationFlag)
    .option("--list", "Say which checks there are, and make none.")
    .addHelpText("after", HELP);
  does(asksDaemon(command), checkConformance);
}

async function checkConformance(given: ConformanceGiven): Promise<number> {
  const { checkWorker, conformanceChecks } = await import("../runtime/conformance/check-worker.ts");
  if (given.list) {
    const list = conformanceChecks.map(({ id, sentence, place }) => ({ id, sentence, place }));
    if (given.json) printJson(list);
    else print(describeCheckList(list));
    return COMPLETED;
  }
  const { subject, only } = given;
  if (subject === undefined) throw new UsageError("--subject: expected <prefix>.agents.<agent>, got nothing");
  const [input, slowInput, handoffInput] = await Promise.all(
    [given.input ?? "conformance", given.slowInput, given.handoffInput].map((text) =>
      text === undefined ? undefined : readInput(text),
    ),
  );
  const limits = withoutUndefined({
    acceptMs: given.acceptWithin,
    silenceMs: given.aliveWithin,
    outcomeMs: given.doneWithin,
    cancelMs: given.cancelledWithin,
    quietMs: given.listen,
  });
  const { bus } = await openBus(given);
  try {
    const report = await checkWorker({
      bus,
      subject,
      input,
      slowInput,
      handoffInput,
      limits,
      ...(only && { only }),
    });
    if (given.json) printJson(report);
    else print(describeConformance(report));
    return report.conforms ? COMPLETED : FAILED;
  } finally {
    await bus.close();
  }
}

function withoutUndefined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}
