/**
 * A `Model` that costs the daemon as little as HTTP allows: pipelined requests over a few kept-alive sockets, one write for all
 * that are made in one turn of the event loop, answers told apart by their length alone. It stands for "some provider's client"
 * where the client is not what is measured; it speaks to `model-server.ts` and to nothing else.
 *
 * Invariants
 * L1  Answers come in the order of the requests of their socket (RFC 9112, section 9.3.2).
 * L2  A call that is aborted leaves its place in that order; its answer is dropped. A socket that fails fails all its calls.
 */
import { connect, type Socket } from "node:net";
import type { Model, ModelReply, ModelRequest } from "../src/actors/model.ts";
import { ModelError } from "../src/errors.ts";

type Waiter = { resolve: (body: string) => void; reject: (error: unknown) => void };
type Line = { readonly socket: Socket; received: string; unsent: string; readonly waiters: Waiter[] };

const HEAD_END = "\r\n\r\n";
// So that one slow answer does not hold up all others.
const LINES = 4;

/** Makes the model; `url` is the model server's. */
export default function leanModel({ url }: { url: string }): Model {
  const { hostname, port, host } = new URL(url);
  const lines: Line[] = [];
  let turn = 0;

  function lineOfThisTurn(): Line {
    const place = turn % LINES;
    const line = lines[place] ?? open();
    lines[place] = line;
    return line;
  }

  function open(): Line {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    const line: Line = { socket, received: "", unsent: "", waiters: [] };
    // The model server says nothing but ASCII, so characters are bytes.
    socket.setEncoding("latin1");
    socket.on("data", (piece) => receive(line, String(piece)));
    socket.on("error", (error) => drop(line, error));
    socket.on("close", () => drop(line, new Error("the model server closed the connection")));
    return line;
  }

  function receive(line: Line, piece: string): void {
    line.received += piece;
    for (;;) {
      const { received } = line;
      const head = received.indexOf(HEAD_END);
      if (head < 0) return;
      const start = head + HEAD_END.length;
      const end = start + Number(/^content-length: (\d+)/im.exec(received.slice(0, head))?.[1]);
      if (!(received.length >= end)) return;
      line.received = received.slice(end);
      // L1
      const waiter = line.waiters.shift();
      if (received.startsWith("HTTP/1.1 200")) waiter?.resolve(received.slice(start, end));
      else waiter?.reject(new Error(received.slice(0, received.indexOf("\r\n"))));
    }
  }

  /** L2 */
  function drop(line: Line, error: unknown): void {
    line.socket.destroy();
    const place = lines.indexOf(line);
    if (place >= 0) delete lines[place];
    for (const { reject } of line.waiters.splice(0)) reject(error);
  }

  function send(line: Line): void {
    const { unsent } = line;
    line.unsent = "";
    turn += 1;
    if (!line.socket.destroyed) line.socket.write(unsent);
  }

  function exchange(body: string, signal: AbortSignal): Promise<string> {
    return new Promise((resolve, reject) => {
      const line = lineOfThisTurn();
      const onAbort = () => reject(signal.reason);
      const settled = () => signal.removeEventListener("abort", onAbort);
      line.waiters.push({
        resolve(text) {
          settled();
          resolve(text);
        },
        reject(error) {
          settled();
          reject(error);
        },
      });
      signal.addEventListener("abort", onAbort, { once: true });
      if (line.unsent === "") setImmediate(send, line);
      const length = Buffer.byteLength(body);
      line.unsent += `POST /lean HTTP/1.1\r\nhost: ${host}\r\ncontent-length: ${length}${HEAD_END}${body}`;
    });
  }

  return {
    provider: "lean",
    server: { address: hostname, port: Number(port) },
    async call(request: ModelRequest, { signal }): Promise<ModelReply> {
      signal.throwIfAborted();
      const { model, instructions, messages, tools } = request;
      try {
        return JSON.parse(
          await exchange(JSON.stringify({ model, instructions, messages, tools }), signal),
        ) as ModelReply;
      } catch (error) {
        signal.throwIfAborted();
        throw new ModelError("unavailable", `lean model at ${url}: ${String(error)}`, { retryable: true });
      }
    },
  };
}
