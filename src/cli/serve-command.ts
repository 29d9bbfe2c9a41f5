/** `troupe serve`: the daemon in the foreground, until a signal. */
import type { Command } from "commander";
import type { Logger } from "pino";
import { addOptionFlags, flagsOf } from "../runtime/config/option-flags.ts";
import type { Daemon } from "../runtime/edges/daemon.ts";
import type { LoadedConfig } from "../runtime/edges/dev.ts";
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
  const command = program.command("serve").description("Run the daemon: host agents, drive workflows.");
  does(addServeFlags(command).addHelpText("after", EXAMPLES), serveUntilStopped);
}

/** Gives a command that runs a daemon its flags. */
export function addServeFlags(command: Command): Command {
  return addOptionFlags(
    command
      .option("--config <file>", "YAML, JSON, TypeScript or JavaScript. (default: the troupe.* here)")
      .option("--no-config", "Without a configuration: agents and workflows are those that were put into the troupe."),
  );
}

async function serveUntilStopped(given: ServeGiven): Promise<void> {
  await (await startServing(given)).untilStopped();
}

export type ServeGiven = Given & { config?: string | false };

/** A daemon in the foreground. */
export type Serving = {
  daemon: Daemon;
  /** Reads configuration and options anew, from where they were read. */
  load(): Promise<LoadedConfig>;
  loaded: LoadedConfig;
  logger: Logger;
  /** Drains when a signal says so. */
  untilStopped(): Promise<void>;
};

/** Starts a daemon as flags, variables and files say; `ownFlags` are for what no flag says. A signal before that ends the process. */
export async function startServing(given: ServeGiven, ownFlags: { [key: string]: unknown } = {}): Promise<Serving> {
  const stop = listenForStop();
  // Loaded here: the daemon is most of the start-up time, and the other commands do without.
  const [{ checkConfig, loadConfig }, { resolveOptions }, { openLogger }, { serveConfig }] = await Promise.all([
    import("../runtime/config/load-config.ts"),
    import("../runtime/config/resolve-options.ts"),
    import("../runtime/edges/logger.ts"),
    import("../runtime/edges/serve.ts"),
  ]);
  const warned: string[] = [];
  const load = async (): Promise<LoadedConfig> => {
    const cwd = process.cwd();
    const config =
      given.config === false
        ? await checkConfig({}, { fileName: "--no-config", dir: cwd })
        : await loadConfig(given.config, cwd);
    const { options, warnings } = resolveOptions({
      flags: { ...ownFlags, ...flagsOf(given) },
      env: process.env,
      file: config.daemon,
      fileName: config.fileName,
      fileDir: config.dir,
    });
    warned.push(...warnings);
    return { config, options };
  };
  const loaded = await load();
  const { config, options } = loaded;
  const logger = openLogger(options);
  for (const warning of warned) logger.warn(warning);

  const daemon = await Promise.race([serveConfig({ config, options, logger }), stop.asked]);
  if (typeof daemon === "string") {
    logger.info({ signal: daemon }, "told to stop before it was ready");
    // What was being started (a connection that waits, a server) has nothing to lose and would keep the process.
    process.exit(0);
  }
  return {
    daemon,
    load,
    loaded,
    logger,
    async untilStopped() {
      const signal = await stop.asked;
      logger.info({ signal }, "told to stop; a second signal ends at once");
      await daemon.drain();
    },
  };
}
