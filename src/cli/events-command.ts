/** `troupe events`: what happens, as it happens. */
import type { Command } from "commander";
import { asksDaemon, does } from "./cli-command.ts";
import { type Given, withClient } from "./open-client.ts";
import { print, printJsonLine } from "./print.ts";
import { runTeller } from "./run-lines.ts";

type EventsGiven = Given & { json?: boolean; workflow?: string };

/** Adds the command to the program. */
export function addEventsCommand(program: Command): void {
  const command = program
    .command("events")
    .description("Tell what happens in all runs from now on, or in one from its beginning to its end.")
    .argument("[run-id]", "the run to follow")
    .option("--workflow <name>", "Only runs of this workflow.");
  does(asksDaemon(command, "Print every event as a line of JSON, the models' words among them."), tellEvents);
}

async function tellEvents({ json, workflow, ...given }: EventsGiven, runId: string | undefined): Promise<void> {
  const tell = runTeller({ named: runId === undefined });
  await withClient(given, async (client) => {
    const events = runId === undefined ? client.feed(workflow === undefined ? {} : { workflow }) : client.events(runId);
    for await (const event of events) {
      const line = json ? undefined : tell(event);
      if (json) printJsonLine(event);
      else if (line) print(line);
    }
  });
}
