/** `troupe serve`: the daemon in the foreground, until a signal. */
import type { Command } from "commander";
import { addOptionFlags, flagsOf } from "../runtime/config/option-flags.ts";
import { does } from "./cli-command.ts";
import type { Given } from "./open-client.ts";
import { listenForStop } from "./stop-signals.ts";

const EXAMPLES = `
Examples:
  troupe serve                                   troupe.yaml here, and an embedded nats-server
  troupe serve --config agents.ts --nats nats://10.0.0.5:4222
  troupe serve --agents researcher,writer        hosts these agents, leaves the others to other daemons

Each flag is also a variable (--suspect-after is TROUPE_SUSPECT_AFTER_MS) and a key of the file's section daemon
(suspectAfterMs). A flag goes before a variable, a variable before the file. SIGTERM and Ctrl-C drain; twice ends at once.`;

/** Adds the command to the program. */
export function addServeCommand(program: Command): void {
  const command = program
    .command("serve")
    .description("Run the daemon: host agents, drive workflows.")
    .option("--config <file>", "YAML, JSON, TypeScript or JavaScript. (default: the troupe.* here)")
    .option("--no-config", "Without a configuration: agents and workflows are those that were put into the troupe.")
    .addHelpText("after", EXAMPLES);
  does(addOptionFlags(command), serveUntilStopped);
}

async function serveUntilStopped(given: Given & { config?: string | false }): Promise<void> {
  const stop = listenForStop();
  // Loaded here: the daemon is most of the start-up time, and the other commands do without.
  const [{ checkConfig, loadConfig }, { resolveOptions }, { openLogger }, { serveConfig }] = await Promise.all([
    import("../runtime/config/load-config.ts"),
    import("../runtime/config/resolve-options.ts"),
    import("../runtime/edges/logger.ts"),
    import("../runtime/edges/serve.ts"),
  ]);
  const config =
    given.config === false
      ? await checkConfig({}, { fileName: "--no-config", dir: process.cwd() })
      : await loadConfig(given.config, process.cwd());
  const { options, warnings } = resolveOptions({
    flags: flagsOf(given),
    env: process.env,
    file: config.daemon,
    fileName: config.fileName,
    fileDir: config.dir,
  });
  const logger = openLogger(options);
  for (const warning of warnings) logger.warn(warning);

  const daemon = await Promise.race([serveConfig({ config, options, logger }), stop.asked]);
  if (typeof daemon === "string") {
    logger.info({ signal: daemon }, "told to stop before it was ready");
    // What was being started (a connection that waits, a server) has nothing to lose and would keep the process.
    process.exit(0);
  }
  const signal = await stop.asked;
  logger.info({ signal }, "told to stop; a second signal ends at once");
  await daemon.drain();
}
