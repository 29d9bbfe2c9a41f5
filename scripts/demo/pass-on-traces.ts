/** Sends what the demo's own collector receives on to the one of this machine, if there is one. */
import type { OtlpRequest } from "../../src/tracing/otlp-receiver.ts";

export type PassOn = {
  /** Where the collector is, for people to read. */
  readonly endpoint: string;
  /** Whether it answered. */
  readonly answers: boolean;
  take(request: OtlpRequest): void;
  /** Waits for what is under way; says why something was refused. */
  settled(): Promise<string | undefined>;
  /** Where a Jaeger beside that collector shows a trace. */
  linkTo(traceId: string): string;
};

const DEFAULT_ENDPOINT = "http://localhost:4318";
const ANSWER_WITHIN_MS = 2_000;

/** Looks for a collector at `OTEL_EXPORTER_OTLP_ENDPOINT`, else at http://localhost:4318. */
export async function openPassOn(env: NodeJS.ProcessEnv = process.env): Promise<PassOn> {
  const url =
    env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ||
    `${(env.OTEL_EXPORTER_OTLP_ENDPOINT || DEFAULT_ENDPOINT).replace(/\/$/, "")}/v1/traces`;
  const headers = headersFrom(env.OTEL_EXPORTER_OTLP_TRACES_HEADERS || env.OTEL_EXPORTER_OTLP_HEADERS);
  // A request without spans is valid, and is no bytes at all.
  const refused = await send({ headers: { "content-type": "application/x-protobuf" }, body: new Uint8Array() });
  const answers = refused === undefined;
  const underWay: Promise<string | undefined>[] = [];

  return {
    endpoint: url,
    answers,
    take(request) {
      if (answers) underWay.push(send(request));
    },
    settled: async () => (await Promise.all(underWay)).find((reason) => reason !== undefined),
    linkTo: (traceId) => `http://${new URL(url).hostname}:16686/trace/${traceId}`,
  };

  async function send(request: OtlpRequest): Promise<string | undefined> {
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { ...headers, ...request.headers },
        body: Buffer.from(request.body),
        signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
      });
      await response.arrayBuffer();
      return response.ok ? undefined : `HTTP ${response.status}`;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }
}

/** `key=value` pairs with commas between them, percent-encoded, as OpenTelemetry has them. */
function headersFrom(written = ""): { [name: string]: string } {
  const pairs = written.split(",").map((pair) => pair.split("=").map((part) => decodeURIComponent(part.trim())));
  return Object.fromEntries(pairs.filter(([name, value]) => name && value));
}
