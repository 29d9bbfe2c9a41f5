import { Events, type NatsConnection } from "nats";
import type { Stage } from "./stage.ts";

/** Kills the broker and starts it again at once; resolves when the test's own connection is back. */
export async function crashBroker({ nats, journals }: Pick<Stage, "nats" | "journals">): Promise<void> {
  const back = reconnected(journals.nc);
  await nats.kill();
  await nats.restart();
  await back;
}

/** Resolves when a connection that is about to be lost is there again. */
export async function reconnected(nc: NatsConnection): Promise<void> {
  for await (const { type } of nc.status()) if (type === Events.Reconnect) return;
}
