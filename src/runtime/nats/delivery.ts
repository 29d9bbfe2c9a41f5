/** What the reply subject of a message says that a consumer delivered. */
import type { Msg } from "./nats.ts";

export type Delivery = {
  consumer: string;
  /** Its place in the stream. */
  seq: number;
  /** How many messages the consumer has delivered, this one included. */
  delivery: number;
  /** When the broker stored it, in nanoseconds. */
  storedAt: string;
  /** How many more the consumer has. */
  pending: number;
};

/**
 * `$JS.ACK.<stream>.<consumer>.<deliveries>.<seq>.<delivery>.<time>.<pending>`; newer brokers put domain and account before
 * the stream and may add a token at the end (ADR-15). Undefined for what no consumer delivered.
 */
export function deliveryOf({ reply }: Msg): Delivery | undefined {
  const tokens = reply?.split(".") ?? [];
  const shift = tokens.length === 9 ? 0 : tokens.length >= 11 ? 2 : undefined;
  if (shift === undefined) return undefined;
  return {
    consumer: tokens[3 + shift] ?? "",
    seq: Number(tokens[5 + shift]),
    delivery: Number(tokens[6 + shift]),
    storedAt: tokens[7 + shift] ?? "",
    pending: Number(tokens[8 + shift]),
  };
}
