/** `troupe validate`: everything that is wrong with a configuration, at once. */
import { resolve } from "node:path";
import type { Command } from "commander";
import { DefinitionError, describeProblem, type Problem } from "../errors.ts";
import type { Config } from "../runtime/config/load-config.ts";
import { does } from "./cli-command.ts";
import type { Given } from "./open-client.ts";
import { print, printJson } from "./print.ts";
import { COMPLETED, USAGE } from "./report-error.ts";
import { count } from "./words.ts";

/** Adds the command to the program. */
export function addValidateCommand(program: Command): void {
  const command = program
    .command("validate")
    .description("Check a configuration, its tools and its providers; nothing is started.")
    .argument("[file]", "YAML, JSON, TypeScript or JavaScript (default: the troupe.* here)")
    .option("--workflows <folder>", "The folder of definitions beside it. (default: as the file says)")
    .option("--json", "Print JSON.");
  does(command, validate);
}

async function validate(
  { json, workflows }: Given & { json?: boolean; workflows?: string },
  file: string | undefined,
): Promise<number> {
  try {
    const config = await load(file, workflows);
    if (json) printJson({ ...summaryOf(config), problems: [] });
    else print(describe(config));
    return COMPLETED;
  } catch (error) {
    if (!(error instanceof DefinitionError)) throw error;
    if (json) printJson({ problems: error.problems });
    else tellProblems(error.problems);
    return USAGE;
  }
}

async function load(file: string | undefined, folder: string | undefined): Promise<Config> {
  const [{ loadConfig }, { withWorkflowsDir }] = await Promise.all([
    import("../runtime/config/load-config.ts"),
    import("../runtime/config/workflows-dir.ts"),
  ]);
  const config = await loadConfig(file, process.cwd());
  const { workflows } = config.daemon;
  const dir = folder ?? (typeof workflows === "string" ? resolve(config.dir, workflows) : undefined);
  return dir === undefined ? config : withWorkflowsDir(config, resolve(dir));
}

function summaryOf({ fileName, agents, workflows }: Config) {
  return { file: fileName, agents: [...agents.keys()], workflows: [...workflows.keys()] };
}

function describe({ fileName, agents, workflows }: Config): string {
  return `${fileName}: ${count(agents.size, "agent")} and ${count(workflows.size, "workflow")}, nothing wrong`;
}

function tellProblems(problems: readonly Problem[]): void {
  for (const problem of problems) process.stderr.write(`${describeProblem(problem)}\n`);
}
