/** From the flags of a command to a client that is connected, or one line on what was tried. */
import { join } from "node:path";
import type { Command } from "commander";
import { UnavailableError } from "../errors.ts";
import { addOptionFlags, flagsOf } from "../runtime/config/option-flags.ts";
import type { OptionKey, ResolvedOptions } from "../runtime/config/options.ts";
import { resolveOptions } from "../runtime/config/resolve-options.ts";
import { type Client, connect } from "../runtime/edges/client.ts";
import { type Bus, connectBus, type NatsOptions } from "../runtime/nats/connection.ts";
import { NatsError } from "../runtime/nats/nats.ts";
import { findRunningNatsServer } from "../runtime/nats/server.ts";

/** What was given on the command line, as commander has it. */
export type Given = { readonly [attribute: string]: unknown };

const CREDENTIALS = ["creds", "nkey", "token", "user", "password", "tlsCa", "tlsCert", "tlsKey"] as const;
const CONNECTION: readonly OptionKey[] = ["nats", ...CREDENTIALS, "prefix", "data"];
const CLI = { name: "troupe cli", inboxPrefix: "_INBOX_client" } as const;
const DEFAULT_SERVER = "nats://127.0.0.1:4222";
// A daemon that is there answers within milliseconds; a person will not wait longer for one that is not.
const PATIENCE_MS = 5_000;

/** Gives a command the flags that say where NATS is. */
export function addConnectionFlags(command: Command): Command {
  return addOptionFlags(command.optionsGroup("Connection:"), CONNECTION);
}

/**
 * Does some work with a client and closes it: of `--nats` or its variables, else of the embedded server that runs in
 * `--data`, else of nats://127.0.0.1:4222.
 *
 * @throws UnavailableError that says where it tried and what to do.
 */
export async function withClient<T>(given: Given, work: (client: Client) => Promise<T>): Promise<T> {
  const { options } = resolveOptions({ flags: flagsOf(given), env: process.env });
  const { servers, found } = await locate(options);
  const client = await reach(servers, options).catch((error: unknown) => {
    if (!(error instanceof UnavailableError)) throw error;
    throw unreachableAt(servers, found, error);
  });
  try {
    return await work(client);
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
    throw new UnavailableError(
      `NATS at ${servers.join(", ")} (${found}): ${error.message}; is \`troupe serve\` running?`,
      {
        cause: error,
      },
    );
  } finally {
    await client.close();
  }
}

/** A connection for a command that looks at more than the API, and where it leads. */
export type OpenBus = { bus: Bus; options: ResolvedOptions };

/**
 * Connects to the NATS that `withClient` would use.
 *
 * @throws UnavailableError that says where it tried.
 */
export async function openBus(given: Given): Promise<OpenBus> {
  const { options } = resolveOptions({ flags: flagsOf(given), env: process.env });
  const { servers, found } = await locate(options);
  const connecting = connectBus({ servers, ...credentialsOf(options), ...CLI, waitAtStart: false });
  try {
    return { bus: await withPatience(connecting), options };
  } catch (error) {
    if (!(error instanceof UnavailableError || error instanceof NatsError)) throw error;
    throw unreachableAt(servers, found, error);
  }
}

/** The flags that find the same NATS again, for a command that is suggested. */
export function connectionWords(given: Given): string {
  const words = (["nats", "prefix", "data"] as const).flatMap((key) =>
    given[key] === undefined ? [] : [`--${key} ${String(given[key])}`],
  );
  return words.map((word) => ` ${word}`).join("");
}

async function locate({ nats, data }: ResolvedOptions): Promise<{ servers: readonly string[]; found: string }> {
  if (nats) return { servers: nats, found: "as --nats or NATS_URL says" };
  const embedded = await findRunningNatsServer(join(data, "nats"));
  if (embedded) return { servers: [embedded], found: `the embedded server of ${data}` };
  const found = `the default, as there is no --nats, no NATS_URL and no daemon at work in ${data}`;
  return { servers: [DEFAULT_SERVER], found };
}

async function reach(servers: readonly string[], options: ResolvedOptions): Promise<Client> {
  const { prefix, maxPayloadBytes } = options;
  return withPatience(
    connect({ servers, prefix, maxPayloadBytes, ...CLI, timeoutMs: PATIENCE_MS, ...credentialsOf(options) }),
  );
}

function credentialsOf(options: ResolvedOptions): Partial<NatsOptions> {
  return Object.fromEntries(CREDENTIALS.flatMap((key) => (options[key] === undefined ? [] : [[key, options[key]]])));
}

async function withPatience<Connection extends { close(): Promise<void> }>(
  connecting: Promise<Connection>,
): Promise<Connection> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new UnavailableError(`it does not answer within ${PATIENCE_MS / 1_000} s`);
    timer = setTimeout(() => {
      reject(error);
      // Nobody would close one that comes through after all.
      connecting.then((connection) => connection.close()).catch(() => {});
    }, PATIENCE_MS);
  });
  try {
    return await Promise.race([connecting, late]);
  } finally {
    clearTimeout(timer);
  }
}

function unreachableAt(servers: readonly string[], found: string, error: Error): UnavailableError {
  return new UnavailableError(`no NATS at ${servers.join(", ")} (${found}): ${reasonOf(error)}`, { cause: error });
}

function reasonOf(error: Error): string {
  const cause = error instanceof UnavailableError ? error.cause : error;
  if (!(cause instanceof Error)) return error.message;
  return cause.message === "CONNECTION_REFUSED" ? "nothing listens there" : cause.message;
}
