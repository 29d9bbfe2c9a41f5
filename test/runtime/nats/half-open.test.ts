import { expect, test } from "vitest";
import { connectBus } from "../../../src/runtime/nats/connection.ts";
import { startCable } from "../../helpers/cable.ts";
import { startTestNats } from "../../helpers/nats-server.ts";
import { until } from "../../helpers/until.ts";

const NOTICED_MS = 30_000;

test.concurrent.each([
  ["that is idle", 0],
  // More than the sockets of both sides take: closing must not wait for it to go out.
  ["with much on its way", 24],
])("a half-open connection %s is noticed within 30 s and made again", { timeout: 60_000 }, async (_, megabytes) => {
  await using nats = await startTestNats();
  await using cable = await startCable(nats.port);
  const said: { what: string; at: number }[] = [];
  const note = (what: string) => () => void said.push({ what, at: performance.now() });
  const bus = await connectBus(
    { servers: cable.url, name: "test", inboxPrefix: "_INBOX_test" },
    { lost: note("lost"), restored: note("restored") },
  );
  cable.swallow();
  const deadAt = performance.now();
  const unanswered = bus.request("nobody", "", { timeoutMs: 120_000 }).catch((error: unknown) => String(error));
  for (let i = 0; i < megabytes; i += 1) bus.nc.publish("much", new Uint8Array(1_000_000));
  await until("it is connected again", () => said.length === 2, { withinMs: NOTICED_MS + 5_000 });
  expect(said.map(({ what }) => what)).toEqual(["lost", "restored"]);
  const noticedMs = (said[0]?.at ?? 0) - deadAt;
  console.log(`${megabytes} MB on their way: noticed after ${Math.round(noticedMs)} ms`);
  expect(noticedMs).toBeLessThan(NOTICED_MS);
  expect(await unanswered).toContain("the connection was lost");
  await bus.nc.flush();
  await bus.close();
});
