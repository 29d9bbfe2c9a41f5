/** A span as plain data, whichever encoding it came in. */
export type PlainValue = string | number | boolean | null | PlainValue[] | { [key: string]: PlainValue };

export type PlainAttributes = { [key: string]: PlainValue };

export type PlainSpan = {
  traceId: string;
  spanId: string;
  /** Absent for a root. */
  parentSpanId?: string;
  name: string;
  kind: "unspecified" | "internal" | "server" | "client" | "producer" | "consumer";
  /** Nanoseconds since the epoch. */
  start: bigint;
  /** Nanoseconds since the epoch. */
  end: bigint;
  status: { code: "unset" | "ok" | "error"; message?: string };
  attributes: PlainAttributes;
  links: { traceId: string; spanId: string; attributes: PlainAttributes }[];
  events: { name: string; at: bigint; attributes: PlainAttributes }[];
  /** Attributes of the process that sent it. */
  resource: PlainAttributes;
  /** The name of the instrumentation scope. */
  scope: string;
};

const KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"] as const;
const CODES = ["unset", "ok", "error"] as const;

/** A span kind by its number in OTLP. */
export function spanKind(number: number): PlainSpan["kind"] {
  return KINDS[number] ?? "unspecified";
}

/** A status code by its number in OTLP. */
export function statusCode(number: number): PlainSpan["status"]["code"] {
  return CODES[number] ?? "unset";
}
