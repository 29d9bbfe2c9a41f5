/** A nats-server and a connection to it that the tests of one file share. */
import { afterAll } from "vitest";
import { type Bus, connectBus } from "../../src/runtime/nats/connection.ts";
import { startTestNats, type TestNats } from "./nats-server.ts";

/** Starts both; they end with the file. */
export async function sharedBus(): Promise<{ nats: TestNats; bus: Bus }> {
  const nats = await startTestNats();
  const bus = await connectBus({ servers: nats.url, name: "test", inboxPrefix: "_INBOX_test" });
  afterAll(async () => {
    await bus.close();
    await nats[Symbol.asyncDispose]();
  });
  return { nats, bus };
}
