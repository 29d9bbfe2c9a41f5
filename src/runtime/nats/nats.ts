/**
 * The only module that knows which NATS client is used. `nats` 2.29 is in maintenance; when `@nats-io/*` v3 agrees with
 * itself (its `services` lags), this file is what changes.
 */

export type {
  ConnectionOptions,
  ConsumerMessages,
  JetStreamClient,
  JetStreamManager,
  JsMsg,
  Msg,
  MsgHdrs,
  NatsConnection,
  ServiceMsg,
  StoredMsg,
  StreamConfig,
  StreamInfo,
  Subscription,
} from "nats";
export {
  AckPolicy,
  connect,
  createInbox,
  credsAuthenticator,
  DebugEvents,
  DeliverPolicy,
  DiscardPolicy,
  Events,
  headers,
  NatsError,
  nanos,
  nkeyAuthenticator,
  nuid,
  RetentionPolicy,
  StorageType,
} from "nats";

import type { MsgHdrs, NatsConnection } from "nats";

const encoder = new TextEncoder();

/**
 * Headers of our own making, encoded once. The client's own headers object checks and encodes every value again; publishing
 * uses nothing of it but `encode`, which its types do not show. Values must not hold line breaks.
 */
export function rawHeaders(...pairs: readonly (readonly [name: string, value: string])[]): MsgHdrs {
  let text = "NATS/1.0\r\n";
  for (const [name, value] of pairs) text += `${name}: ${value}\r\n`;
  const bytes = encoder.encode(`${text}\r\n`);
  const encodable = { encode: () => bytes };
  return encodable as unknown as MsgHdrs;
}

/**
 * Lets the connection write once per turn of the event loop. The client writes after every microtask that published, which
 * under load is several system calls for what fits into one; together they are the dearest thing a daemon does.
 *
 * `flushPending` is not part of the client's types; where it is missing nothing changes.
 */
export function writeOncePerTurn(nc: NatsConnection): void {
  const { protocol } = nc as unknown as { protocol?: { flushPending?: () => void } };
  const flush = protocol?.flushPending?.bind(protocol);
  if (!protocol || !flush) return;
  let scheduled = false;
  protocol.flushPending = () => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      flush();
    });
  };
}

/**
 * Drops the socket of a connection that answers no pings. The client first waits for its last write to go out, which it never
 * does where the network is dead and the socket full: it would neither close nor connect again until the kernel gives up.
 *
 * `transport` is not part of the client's types; where it is missing nothing changes.
 */
export function dropSocket(nc: NatsConnection): void {
  const { protocol } = nc as unknown as { protocol?: { transport?: { socket?: { destroy(): void } } } };
  protocol?.transport?.socket?.destroy();
}
