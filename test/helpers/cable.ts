/** A TCP relay in front of a broker that does to connections what networks do: swallows, holds back, drops. */
import { createServer, connect as openSocket, type Socket } from "node:net";

export type Cable = {
  readonly url: string;
  /** From now on what the broker says on the connections there are now is lost; what is said to it arrives. */
  muteAnswers(): void;
  /** From now on nothing arrives on either side of the connections there are now, and neither side is told. New ones work. */
  swallow(): void;
  /** Keeps back what both sides say on the connections there are now, until `release`; new ones have to wait as well. */
  hold(): void;
  release(): void;
  /** From now on everything takes so many milliseconds, each way. */
  slow(ms: number): void;
  /** Drops all connections; new ones work. */
  cut(): void;
  /** Drops all connections and takes none, until `accept`. */
  refuse(): void;
  accept(): void;
  [Symbol.asyncDispose](): Promise<void>;
};

type Line = { readonly client: Socket; readonly server: Socket; muted: boolean; dead: boolean };

/** Opens a relay to the broker at `port` of this machine, on a free loopback port. */
export async function startCable(port: number): Promise<Cable> {
  const lines = new Set<Line>();
  let held = false;
  let refusing = false;
  let delayMs = 0;
  // Where a network is dead nobody answers an end, so it is not answered by itself.
  const relay = createServer({ allowHalfOpen: true }, (client) => {
    if (refusing) return void client.destroy();
    const server = openSocket({ port, host: "127.0.0.1", allowHalfOpen: true });
    const line: Line = { client, server, muted: false, dead: false };
    lines.add(line);
    for (const socket of [client, server]) {
      socket.on("error", () => {});
      for (const event of ["end", "close"]) socket.on(event, () => end(line));
      if (held) socket.pause();
    }
    client.on("data", (data) => later(() => server.write(data)));
    server.on("data", (data) => {
      if (!line.muted) later(() => client.write(data));
    });
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const address = relay.address();
  if (typeof address !== "object" || address === null) throw new Error("the relay has no port");
  return {
    url: `nats://127.0.0.1:${address.port}`,
    muteAnswers() {
      for (const line of lines) line.muted = true;
    },
    swallow() {
      // Not read at all, as a dead network does not: who writes much finds the socket full.
      for (const line of lines) {
        line.dead = true;
        line.client.pause();
        line.server.pause();
      }
    },
    hold() {
      held = true;
      for (const { client, server } of lines) for (const socket of [client, server]) socket.pause();
    },
    release() {
      held = false;
      for (const { client, server, dead } of lines) if (!dead) for (const socket of [client, server]) socket.resume();
    },
    slow(ms) {
      delayMs = ms;
    },
    cut: dropAll,
    refuse() {
      refusing = true;
      dropAll();
    },
    accept() {
      refusing = false;
    },
    async [Symbol.asyncDispose]() {
      for (const line of lines) line.dead = false;
      dropAll();
      await new Promise((resolve) => relay.close(resolve));
    },
  };

  function later(write: () => void) {
    if (delayMs === 0) write();
    else setTimeout(write, delayMs);
  }

  function end(line: Line) {
    if (line.dead) return;
    line.client.destroy();
    line.server.destroy();
    lines.delete(line);
  }

  function dropAll() {
    for (const { client, server } of [...lines]) {
      client.destroy();
      server.destroy();
    }
  }
}
