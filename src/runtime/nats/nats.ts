/**
 * The only module that knows which NATS client is used. `nats` 2.29 is in maintenance; when `@nats-io/*` v3 agrees with
 * itself (its `services` lags), this file is what changes.
 */
export {
  AckPolicy,
  connect,
  consumerOpts,
  createInbox,
  credsAuthenticator,
  DeliverPolicy,
  DiscardPolicy,
  Empty,
  ErrorCode,
  Events,
  headers,
  nanos,
  NatsError,
  nkeyAuthenticator,
  nuid,
  RetentionPolicy,
  StorageType,
} from "nats";
export type {
  ConnectionOptions,
  ConsumerInfo,
  ConsumerMessages,
  JetStreamClient,
  JetStreamManager,
  JsMsg,
  Msg,
  MsgHdrs,
  NatsConnection,
  Service,
  ServiceMsg,
  StreamConfig,
  StreamInfo,
  Subscription,
} from "nats";

import type { MsgHdrs } from "nats";

const encoder = new TextEncoder();

/**
 * One header, encoded once. The client's own headers object checks and encodes every value again; publishing uses nothing of
 * it but `encode`, which its types do not show.
 */
export function rawHeaders(name: string, value: string): MsgHdrs {
  const bytes = encoder.encode(`NATS/1.0\r\n${name}: ${value}\r\n\r\n`);
  const encodable = { encode: () => bytes };
  return encodable as unknown as MsgHdrs;
}
