/**
 * A `Model` that costs the daemon as little as HTTP allows: requests over kept-alive sockets, answers told apart by their
 * length alone. It stands for "some provider's client" where the client is not what is measured; it speaks to
 * `model-server.ts` and to nothing else.
 *
 * Invariants
 * L1  A socket has one request on its way at most; it goes back to the pool only after a whole answer.
 * L2  A call that is aborted, or whose socket fails, takes its socket with it.
 */
import { connect, type Socket } from "node:net";
import type { Model, ModelReply, ModelRequest } from "../src/actors/model.ts";
import { ModelError } from "../src/errors.ts";

type Waiter = { resolve: (body: string) => void; reject: (error: unknown) => void };
type Line = { readonly socket: Socket; received: string; waiter: Waiter | undefined };

const HEAD_END = "\r\n\r\n";

/** Makes the model; `url` is the model server's. */
export default function leanModel({ url }: { url: string }): Model {
  const { hostname, port, host } = new URL(url);
  const idle: Line[] = [];

  function open(): Line {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    const line: Line = { socket, received: "", waiter: undefined };
    // The model server says nothing but ASCII, so characters are bytes.
    socket.setEncoding("latin1");
    socket.on("data", (piece) => receive(line, String(piece)));
    socket.on("error", (error) => drop(line, error));
    socket.on("close", () => drop(line, new Error("the model server closed the connection")));
    return line;
  }

  function receive(line: Line, piece: string): void {
    line.received += piece;
    const { received, waiter } = line;
    const head = received.indexOf(HEAD_END);
    if (head < 0 || !waiter) return;
    const start = head + HEAD_END.length;
    const length = Number(/^content-length: (\d+)/im.exec(received.slice(0, head))?.[1]);
    if (received.length < start + length) return;
    line.received = "";
    line.waiter = undefined;
    // L1
    idle.push(line);
    if (received.startsWith("HTTP/1.1 200")) waiter.resolve(received.slice(start));
    else waiter.reject(new Error(received.slice(0, received.indexOf("\r\n"))));
  }

  /** L2 */
  function drop(line: Line, error: unknown): void {
    const { waiter } = line;
    line.waiter = undefined;
    line.socket.destroy();
    const place = idle.indexOf(line);
    if (place >= 0) idle.splice(place, 1);
    waiter?.reject(error);
  }

  function exchange(body: string, signal: AbortSignal): Promise<string> {
    return new Promise((resolve, reject) => {
      const line = idle.pop() ?? open();
      const onAbort = () => drop(line, signal.reason);
      const settled = () => signal.removeEventListener("abort", onAbort);
      line.waiter = {
        resolve(text) {
          settled();
          resolve(text);
        },
        reject(error) {
          settled();
          reject(error);
        },
      };
      signal.addEventListener("abort", onAbort, { once: true });
      const length = Buffer.byteLength(body);
      line.socket.write(`POST /lean HTTP/1.1\r\nhost: ${host}\r\ncontent-length: ${length}${HEAD_END}${body}`);
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
