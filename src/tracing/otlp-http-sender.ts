/**
 * Sends spans over OTLP/HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp), one attempt at a time.
 *
 * OpenTelemetry's exporter retries on its own, with timers that keep a process alive, and then drops the batch. Here the queue
 * decides about retries, so this file only adds the wire to OpenTelemetry's configuration and serializers.
 */
import * as http from "node:http";
import * as https from "node:https";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { convertLegacyHttpOptions } from "@opentelemetry/otlp-exporter-base/node-http";
import { JsonTraceSerializer, ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import { encodeTraces } from "./otlp-encode.ts";
import type { SendResult, SpanSender } from "./span-sender.ts";

const compress = promisify(gzip);

/** The specification's 10 s would let one dead connection hold spans back for too long; `OTEL_EXPORTER_OTLP_TIMEOUT` overrides. */
const DEFAULT_TIMEOUT_MS = 3_000;
/** Answers are short; more than this is not an OTLP answer. */
const MAX_ANSWER_BYTES = 64 * 1_024;
/** The batch itself is at fault; a misplaced endpoint or missing credentials are not among these, they may be mended. */
const REFUSALS = new Set([400, 413, 415, 422]);

export type OtlpHttpOptions = {
  protocol: "http/protobuf" | "http/json";
  /** The full URL; absent means what `OTEL_EXPORTER_OTLP_*` say, or `http://localhost:4318/v1/traces`. */
  url?: string;
};

/** Opens a sender with headers, compression, certificates and timeout from `OTEL_EXPORTER_OTLP_(TRACES_)*`. */
export function openOtlpHttpSender({ protocol, url }: OtlpHttpOptions): SpanSender {
  const json = protocol === "http/json";
  const serializer = json ? JsonTraceSerializer : ProtobufTraceSerializer;
  const encode = json ? encodeJson : encodeTraces;
  const config = convertLegacyHttpOptions(url === undefined ? {} : { url }, "TRACES", "v1/traces", {
    "Content-Type": json ? "application/json" : "application/x-protobuf",
  });
  const timeoutMs =
    process.env.OTEL_EXPORTER_OTLP_TRACES_TIMEOUT || process.env.OTEL_EXPORTER_OTLP_TIMEOUT
      ? config.timeoutMillis
      : DEFAULT_TIMEOUT_MS;
  const target = new URL(config.url);
  const agent = Promise.resolve(config.agentFactory(target.protocol));
  const open = new Set<http.ClientRequest>();

  async function attempt(body: Uint8Array): Promise<SendResult> {
    const headers: http.OutgoingHttpHeaders = await config.headers();
    let payload = body;
    if (config.compression === "gzip") {
      payload = await compress(body);
      headers["Content-Encoding"] = "gzip";
    }
    headers["Content-Length"] = payload.byteLength;
    const answer = await post({
      url: target,
      options: { method: "POST", headers, agent: await agent },
      body: payload,
      timeoutMs,
      open,
    });
    return read(answer, (data) => serializer.deserializeResponse(data).partialSuccess);
  }

  return {
    destination: config.url,
    async send(spans) {
      try {
        return await attempt(encode(spans));
      } catch (error) {
        return { type: "unavailable", reason: explain(error) };
      }
    },
    close() {
      for (const request of open) request.destroy();
      agent.then((held) => held.destroy()).catch(() => {});
    },
  };
}

function encodeJson(spans: readonly ReadableSpan[]): Uint8Array {
  return JsonTraceSerializer.serializeRequest([...spans]) ?? new Uint8Array();
}

type Answer = { status: number; retryAfter: string | undefined; body: Buffer };
type PartialSuccess = { rejectedSpans?: number; errorMessage?: string };

type Post = {
  url: URL;
  options: http.RequestOptions;
  body: Uint8Array;
  timeoutMs: number;
  /** Takes in the request while it runs. */
  open: Set<http.ClientRequest>;
};

function post({ url, options, body, timeoutMs, open }: Post): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = (url.protocol === "https:" ? https : http).request(url, options, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("data", (chunk: Buffer) => {
        size += chunk.length;
        if (size <= MAX_ANSWER_BYTES) chunks.push(chunk);
        else response.destroy(new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`));
      });
      response.on("error", reject);
      response.on("end", () => {
        const { statusCode: status = 0, headers } = response;
        resolve({ status, retryAfter: headers["retry-after"], body: Buffer.concat(chunks) });
      });
    });
    const deadline = setTimeout(
      () => request.destroy(new Error(`no answer within ${timeoutMs} ms`)),
      timeoutMs,
    ).unref();
    open.add(request);
    request.on("close", () => {
      clearTimeout(deadline);
      open.delete(request);
    });
    // A collector that hangs must not keep a finished process alive.
    request.on("socket", (socket) => socket.unref());
    request.on("error", reject);
    request.end(body);
  });
}

function read(
  { status, retryAfter, body }: Answer,
  partialSuccess: (data: Uint8Array) => PartialSuccess | undefined,
): SendResult {
  if (status >= 200 && status < 300) {
    const partial = body.length > 0 ? partialSuccessOf(body, partialSuccess) : undefined;
    return {
      type: "accepted",
      rejected: Number(partial?.rejectedSpans ?? 0),
      ...(partial?.errorMessage ? { message: partial.errorMessage } : {}),
    };
  }
  const reason = `HTTP ${status}${body.length > 0 ? `: ${body.toString("utf8", 0, 200)}` : ""}`;
  if (REFUSALS.has(status)) return { type: "refused", reason };
  const seconds = Number(retryAfter);
  return {
    type: "unavailable",
    reason,
    ...(retryAfter !== undefined && seconds >= 0 ? { retryAfterMs: seconds * 1_000 } : {}),
  };
}

function partialSuccessOf(
  body: Uint8Array,
  parse: (data: Uint8Array) => PartialSuccess | undefined,
): PartialSuccess | undefined {
  try {
    return parse(body);
  } catch {
    // It said yes; that the rest is no OTLP does not take that back.
    return undefined;
  }
}

function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = (error as NodeJS.ErrnoException).code;
  return error.message || code || error.name;
}
