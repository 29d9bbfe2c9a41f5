/** A small collector: takes traces over OTLP/HTTP and keeps them in memory, for the demo and for tests. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { decodeJsonTraces } from "./otlp-json.ts";
import { decodeProtobufTraces } from "./otlp-protobuf.ts";
import type { PlainSpan } from "./plain-span.ts";

const decompress = promisify(gunzip);

export type OtlpReceiverOptions = {
  /** @default 0, any free port */
  port?: number;
  /** @default "127.0.0.1" */
  host?: string;
  /** Asked before each request: the status to refuse it with, "hang" to never answer, nothing to take it. */
  admit?: () => number | "hang" | undefined;
  /** Whether `spans` keeps what came; off where `onSpans` does and it goes on for long. @default true */
  keep?: boolean;
  /** Told about spans as they come. */
  onSpans?: (spans: readonly PlainSpan[]) => void;
  /** Given each request that was taken as it came, to be passed on. */
  onRequest?: (request: OtlpRequest) => void;
};

/** A request as it came over HTTP: the body still encoded as its headers say. */
export type OtlpRequest = { headers: { [name: string]: string }; body: Uint8Array };

export type OtlpReceiver = {
  /** What to set `OTEL_EXPORTER_OTLP_ENDPOINT` to. */
  readonly endpoint: string;
  /** Where traces are posted. */
  readonly url: string;
  /** All spans taken so far, in the order they came; copies of one span stay copies. */
  readonly spans: readonly PlainSpan[];
  /** Requests seen so far, the refused ones included. */
  readonly requests: number;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** Starts a receiver for `POST /v1/traces` in `application/json` and `application/x-protobuf`, gzip or not. */
export async function startOtlpReceiver(options: OtlpReceiverOptions = {}): Promise<OtlpReceiver> {
  const { port = 0, host = "127.0.0.1", keep = true, admit, onSpans, onRequest } = options;
  const spans: PlainSpan[] = [];
  let requests = 0;

  async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== "POST" || request.url !== "/v1/traces") {
      answer(response, 404);
      return;
    }
    requests += 1;
    const verdict = admit?.();
    const raw = await readBody(request);
    if (verdict === "hang") return;
    if (verdict !== undefined) {
      answer(response, verdict);
      return;
    }
    const { "content-type": type = "", "content-encoding": encoding } = request.headers;
    const json = type.startsWith("application/json");
    const body = encoding === "gzip" ? await decompress(raw) : raw;
    const received = json ? decodeJsonTraces(body) : decodeProtobufTraces(body);
    if (keep) spans.push(...received);
    answer(response, 200, json ? { "content-type": "application/json" } : { "content-type": "application/x-protobuf" });
    onSpans?.(received);
    onRequest?.({ headers: { "content-type": type, ...(encoding && { "content-encoding": encoding }) }, body: raw });
  }

  const server = createServer((request, response) => {
    take(request, response).catch((error: unknown) => answer(response, 400, {}, String(error)));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  const endpoint = `http://${host}:${(server.address() as AddressInfo).port}`;

  function stop(): Promise<void> {
    return new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  return {
    endpoint,
    url: `${endpoint}/v1/traces`,
    spans,
    get requests() {
      return requests;
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function readBody(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of request) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks);
}

function answer(response: ServerResponse, status: number, headers: { [name: string]: string } = {}, body = ""): void {
  // An empty response message is valid in both encodings, and needs no bytes in protobuf.
  const text = status === 200 && headers["content-type"] === "application/json" ? "{}" : body;
  response.writeHead(status, headers).end(text);
}
