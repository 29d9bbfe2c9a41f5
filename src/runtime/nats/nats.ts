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
