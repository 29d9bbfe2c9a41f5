/** Health and metrics over HTTP, for process supervisors and Prometheus. */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { UsageError } from "../../errors.ts";

type Health = {
  /** The process works; a supervisor restarts it where not. */
  live: boolean;
  /** It can take work. */
  ready: boolean;
  /** Why not, one sentence each. */
  reasons: string[];
  /** What is not as it should be and does not keep it from that, one sentence each. */
  warnings?: string[];
};

export type HttpOptions = {
  /** @default "127.0.0.1" */
  host?: string;
  /** 0 takes a free one. */
  port: number;
  health(): Health;
  /** The page for Prometheus; without it `/metrics` is not found. */
  metrics?(): Promise<string>;
};

export type HttpEdge = {
  readonly host: string;
  readonly port: number;
  readonly url: string;
  /** Closes the socket and every connection at once. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** The code of the error for a port that somebody else has. */
export const PORT_TAKEN = "port_taken";

const PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8";

/**
 * Serves `/healthz`, `/readyz` and `/metrics`.
 *
 * @throws UsageError when it cannot have the address.
 */
export async function startHttp({ host = "127.0.0.1", port, health, metrics }: HttpOptions): Promise<HttpEdge> {
  const server = createServer((request, response) => {
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      return sendJson(response, 405, { error: `expected GET or HEAD, got ${request.method}` });
    }
    const path = new URL(request.url ?? "/", "http://local").pathname;
    route(path, response).catch((error: unknown) => sendJson(response, 500, { error: String(error) }));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(whyNotBound(error, host, port)));
    server.listen(port, host, resolve);
  });
  const bound = (server.address() as AddressInfo).port;
  const shown = host.includes(":") ? `[${host}]` : host;

  return { host, port: bound, url: `http://${shown}:${bound}`, close, [Symbol.asyncDispose]: close };

  async function route(path: string, response: ServerResponse): Promise<void> {
    const { live, ready, reasons, warnings = [] } = health();
    switch (path) {
      case "/healthz":
        return sendJson(response, live ? 200 : 503, { live });
      case "/readyz":
        return sendJson(response, ready ? 200 : 503, { ready, reasons, ...(warnings.length > 0 && { warnings }) });
      case "/metrics":
        if (!metrics) break;
        return sendPage(response, await metrics());
      default:
        break;
    }
    sendJson(response, 404, {
      error: `nothing at ${path}: expected /healthz, /readyz${metrics ? " or /metrics" : ""}`,
    });
  }

  function close(): Promise<void> {
    return new Promise((resolve) => {
      server.close(() => resolve());
      // Keep-alive connections would hold it open.
      server.closeAllConnections();
    });
  }
}

function whyNotBound(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const got = `${host}:${port}`;
  switch (error.code) {
    case "EADDRINUSE":
      return new UsageError(
        `--http-port: expected a free port, got ${got}, which is in use; 0 takes any free one`,
        PORT_TAKEN,
      );
    case "EACCES":
      return new UsageError(`--http-port: expected a port this user may have, got ${got}`);
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return new UsageError(`--http-host: expected an address of this machine, got ${host}`);
    default:
      return error;
  }
}

function sendPage(response: ServerResponse, page: string) {
  response.writeHead(200, { "content-type": PROMETHEUS }).end(page);
}

function sendJson(response: ServerResponse, status: number, body: object) {
  response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`);
}
