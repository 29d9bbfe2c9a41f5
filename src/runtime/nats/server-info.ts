import { connect } from "node:net";

/** What a NATS server says of itself in the first line of every connection; the part of it used here. */
export type ServerInfo = { serverName: string; version: string };

/** Asks who listens there; undefined when nobody does, or nobody who speaks NATS within `timeoutMs` (default 1000). */
export function readServerInfo(host: string, port: number, timeoutMs = 1000): Promise<ServerInfo | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: timeoutMs });
    let text = "";
    const settle = (info: ServerInfo | undefined) => {
      socket.destroy();
      resolve(info);
    };
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      text += chunk;
      if (text.includes("\r\n")) settle(parseInfo(text));
    });
    for (const event of ["error", "timeout", "close"]) socket.on(event, () => settle(undefined));
  });
}

function parseInfo(text: string): ServerInfo | undefined {
  const json = /^INFO (\{.*\})/.exec(text)?.[1];
  if (!json) return undefined;
  try {
    const { server_name, version } = JSON.parse(json) as Record<string, unknown>;
    return { serverName: String(server_name), version: String(version) };
  } catch {
    return undefined;
  }
}
