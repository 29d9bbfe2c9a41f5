/** `troupe schema`: the JSON Schema of configuration files. */
import type { Command } from "commander";
import { does } from "./cli-command.ts";

const HELP = `
Editors with a YAML language server check a file that begins with
  # yaml-language-server: $schema=node_modules/troupe/schema/troupe.schema.json`;

/** Adds the command to the program. */
export function addSchemaCommand(program: Command): void {
  const command = program
    .command("schema")
    .description("Print the JSON Schema of configuration files, for editors.")
    .addHelpText("after", HELP);
  does(command, printSchema);
}

async function printSchema(): Promise<void> {
  const { renderConfigSchema } = await import("../runtime/config/config-schema.ts");
  process.stdout.write(renderConfigSchema());
}
