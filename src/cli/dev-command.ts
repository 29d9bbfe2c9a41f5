/** `troupe dev`: the daemon in the foreground, which takes up changes of its files. */
import type { Command } from "commander";
import { does } from "./cli-command.ts";
import { addServeFlags, type ServeGiven, startServing } from "./serve-command.ts";

const HELP = `
As \`troupe serve\`, and whenever the configuration, one of its tools or a file of --workflows changes, agents and workflows are
read anew: new runs begin with them, runs that are under way go on as they began. A file with mistakes is told with all of them,
and changes nothing. Options of the daemon, providers, and what modules import themselves need a restart.`;

/** Adds the command to the program. */
export function addDevCommand(program: Command): void {
  const command = program
    .command("dev")
    .description("Run the daemon and reload agents and workflows when files change.");
  does(addServeFlags(command).addHelpText("after", HELP), serveAndReload);
}

async function serveAndReload(given: ServeGiven): Promise<void> {
  const { daemon, load, loaded, logger, untilStopped } = await startServing(given, { logFormat: "pretty" });
  const { reloadOnChange } = await import("../runtime/edges/dev.ts");
  const stopWatching = await reloadOnChange({ daemon, load, loaded, logger });
  await untilStopped();
  stopWatching();
}
