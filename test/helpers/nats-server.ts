/** A real nats-server for one test: a store of its own in a temporary folder, gone at the end of the scope. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type NatsServerOptions, type NatsServerProcess, startNatsServer } from "../../src/runtime/nats/server.ts";

export type TestNats = {
  /** Stays the same over restarts. */
  readonly url: string;
  readonly port: number;
  readonly storeDir: string;
  /** As in `2.9.10`. */
  readonly version: string;
  /** The process at work now. */
  readonly pid: number;
  /** Ends the server at once, with no chance to write anything more, and waits until it is gone. */
  kill(): Promise<void>;
  /** Stops the server gracefully and leaves its store. */
  stop(): Promise<void>;
  /** Starts the server again on the same store and port, after stopping one that still runs; `executable` may be another. */
  restart(changes?: Pick<NatsServerOptions, "executable">): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

export type TestNatsOptions = Omit<NatsServerOptions, "storeDir"> & {
  /** More lines for the configuration, made once the store is known. */
  configFor?: (storeDir: string) => string;
};

/** Starts a server; TROUPE_NATS_SERVER selects the binary. Use it with `await using`. */
export async function startTestNats(options: TestNatsOptions = {}): Promise<TestNats> {
  const storeDir = await mkdtemp(join(tmpdir(), "troupe-nats-"));
  // Read at every start: a test may have changed them.
  const start = (port: number, changes?: Pick<NatsServerOptions, "executable">) => {
    const { configFor, ...given } = options;
    const extra = configFor && { configExtra: configFor(storeDir) };
    return startNatsServer({ ...given, ...extra, ...changes, storeDir, port });
  };
  let server: NatsServerProcess = await start(options.port ?? 0);
  const { url, port } = server;
  return {
    url,
    port,
    storeDir,
    get version() {
      return server.version;
    },
    get pid() {
      return server.pid;
    },
    async kill() {
      server.kill("SIGKILL");
      await server.exited;
    },
    stop: () => server.stop(),
    async restart(changes) {
      await server.stop();
      server = await start(port, changes);
    },
    async [Symbol.asyncDispose]() {
      await server.stop();
      await rm(storeDir, { recursive: true, force: true });
    },
  };
}
