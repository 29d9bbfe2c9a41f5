/** The command line as a whole. */
import { Command } from "commander";
import { VERSION } from "../runtime/version.ts";
import { addCatalogCommands } from "./catalog-commands.ts";
import { addConformanceCommand } from "./conformance-command.ts";
import { addDeadCommands } from "./dead-commands.ts";
import { addDevCommand } from "./dev-command.ts";
import { addDoctorCommand } from "./doctor-command.ts";
import { addEventsCommand } from "./events-command.ts";
import { reportError } from "./report-error.ts";
import { addRunCommand } from "./run-command.ts";
import { addRunsCommands } from "./runs-commands.ts";
import { addSchedulesCommands } from "./schedules-commands.ts";
import { addSchemaCommand } from "./schema-command.ts";
import { addServeCommand } from "./serve-command.ts";
import { addApprovalCommands, addSignalCommands } from "./signal-commands.ts";
import { addValidateCommand } from "./validate-command.ts";

const HELP = `
Start a daemon in one terminal and a run in another:
  troupe serve --config troupe.yaml
  troupe run article "the history of tea"

Exit code: 0 for completed, 1 for failed, 2 for a mistake in the command or a file.`;

/** Runs the command in `args` and leaves its exit code in `process.exitCode`; never rejects. */
export async function runCli(args: readonly string[]): Promise<void> {
  const program = new Command("troupe")
    .description("Runs teams of LLM agents as a service on NATS.")
    .version(VERSION, "-V, --version", "Print the version.")
    .helpOption("-h, --help", "Print help.")
    .helpCommand(false)
    // What stands after a command is that command's, also where commands within it have flags of the same name.
    .enablePositionalOptions()
    .exitOverride()
    .addHelpText("after", HELP);
  addServeCommand(program);
  addDevCommand(program);
  addRunCommand(program);
  addSignalCommands(addRunsCommands(program));
  addApprovalCommands(program);
  addCatalogCommands(program);
  addSchedulesCommands(program);
  addEventsCommand(program);
  addDeadCommands(program);
  addDoctorCommand(program);
  addValidateCommand(program);
  addConformanceCommand(program);
  addSchemaCommand(program);
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (error) {
    process.exitCode = reportError(error);
  }
}
