/**
 * One connection to NATS that never gives up: it waits for the broker at start and after every loss, and says so once.
 */
import { readFileSync } from "node:fs";
import { watchContact } from "./contact.ts";
import {
  type ConnectionOptions,
  connect,
  createInbox,
  credsAuthenticator,
  DebugEvents,
  dropSocket,
  Events,
  type JetStreamClient,
  type JetStreamManager,
  type NatsConnection,
  nkeyAuthenticator,
  writeOncePerTurn,
} from "./nats.ts";
import type { ObjectStoreParts } from "./object-store.ts";
import { openRequests, type Requests } from "./requests.ts";
import { openStoreState, type StoreState } from "./store-state.ts";

/** How to reach NATS; files are read once, at connect. */
export type NatsOptions = {
  /** One or several `nats://host:port`. */
  servers: string | readonly string[];
  /** The connection's name, as `nats server list` shows it. */
  name: string;
  /** Replies come to subjects under it; one per role, so that permissions can tell roles apart. */
  inboxPrefix: string;
  /** Path of a credentials file. */
  creds?: string;
  /** Path of an nkey seed file. */
  nkey?: string;
  token?: string;
  user?: string;
  password?: string;
  tlsCa?: string;
  tlsCert?: string;
  tlsKey?: string;
  /** Whether a broker that is not there at the start is waited for; otherwise connecting fails at once. @default true */
  waitAtStart?: boolean;
};

/** What the connection tells about itself. */
export type ConnectionWatcher = {
  /** The broker is gone; the client goes on trying by itself. */
  lost?(reason: string): void;
  restored?(server: string): void;
  /** A subscription's callback threw: a defect, told here because it must not stop the connection. */
  failed?(error: unknown): void;
  /** The broker denied a subject. */
  denied?(subject: string, operation: "publish" | "subscribe"): void;
};

/** NATS and JetStream over one connection. */
export type Bus = {
  readonly nc: NatsConnection;
  readonly js: JetStreamClient;
  /** Made on first use, because it asks the broker. */
  jsm(): Promise<JetStreamManager>;
  /** A request over the shared reply subscription; see `requests.ts`. */
  request: Requests["request"];
  /** Whether JetStream stores what is appended over this connection. */
  readonly store: StoreState;
  /** What buckets of the object store need. */
  readonly objects: ObjectStoreParts;
  /** A new subject for replies, under this connection's inbox prefix. */
  inbox(): string;
  /** What was published before this instant of `performance.now()` has reached the broker. */
  reachedAt: Requests["reachedAt"];
  /** False while the client is trying to reconnect. */
  connected(): boolean;
  /** When the broker was last heard; see `contact.ts`. */
  heardAt(): number;
  /**
   * Calls `listener` whenever the connection is back. What was published shortly before it was lost, and all that was while
   * it was away, has not reached anybody: the client drops it. Returns how to stop it.
   */
  onRestored(listener: () => void): () => void;
  /** Sends what is buffered and closes. */
  close(): Promise<void>;
};

// Half-open connections are noticed when the third ping is due and two are unanswered: after 18 to 27 s, which has to be
// less than 30 on a busy machine as well.
const PING_INTERVAL_MS = 9_000;
const MAX_PINGS_OUT = 2;
// Quick enough for "two seconds after the broker is back", slow enough that an outage of hours costs nothing.
const RECONNECT_WAIT_MS = 250;
const RECONNECT_JITTER_MS = 250;

/** Connects and stays connected until `close`; waits for ever for a broker that is not there yet. */
export async function connectBus(options: NatsOptions, watcher: ConnectionWatcher = {}): Promise<Bus> {
  const nc = await connect(connectionOptions(options));
  let connected = true;
  let manager: Promise<JetStreamManager> | undefined;
  const restoredListeners = new Set<() => void>();
  writeOncePerTurn(nc);
  fallSilentAtTheEnd(nc);
  guardCallbacks(nc, (error) => watcher.failed?.(error));
  const contact = watchContact(nc, isConnected);
  const requests = openRequests(nc, createInbox(options.inboxPrefix));
  const store = openStoreState();
  void watch();

  return {
    nc,
    // The broker says by itself where JetStream is missing; checking at creation would be one more thing to retry.
    js: nc.jetstream({ timeout: 5_000 }),
    jsm() {
      manager ??= nc.jetstreamManager({ timeout: 5_000, checkAPI: false });
      return manager;
    },
    request: requests.request,
    store,
    objects: { request: requests.request, maxPayload: () => nc.info?.max_payload ?? Number.POSITIVE_INFINITY, store },
    inbox: () => createInbox(options.inboxPrefix),
    reachedAt: requests.reachedAt,
    connected: isConnected,
    heardAt: contact.heardAt,
    onRestored(listener) {
      restoredListeners.add(listener);
      return () => void restoredListeners.delete(listener);
    },
    async close() {
      if (nc.isClosed()) return;
      // drain() waits for the broker; without one there is nothing to wait for.
      if (connected) await Promise.race([nc.drain().catch(() => nc.close()), nc.closed()]);
      else await nc.close();
    },
  };

  function isConnected() {
    return connected && !nc.isClosed();
  }

  async function watch() {
    for await (const status of nc.status()) {
      if (status.type === Events.Disconnect && connected) {
        connected = false;
        watcher.lost?.(String(status.data));
      } else if (status.type === Events.Reconnect && !connected) {
        connected = true;
        contact.note();
        watcher.restored?.(nc.getServer());
        for (const listener of restoredListeners) listener();
      } else if (status.type === DebugEvents.StaleConnection) {
        dropSocket(nc);
      } else if (status.type === Events.Error) {
        const { subject, operation } = status.permissionContext ?? {};
        watcher.denied?.(subject ?? String(status.data), operation === "subscription" ? "subscribe" : "publish");
      }
    }
  }
}

/**
 * What is published while the connection closes is dropped, as it would be a moment later. The client throws instead, wherever
 * somebody has a last word: in timers, and in promises nobody waits for any more.
 */
function fallSilentAtTheEnd(nc: NatsConnection): void {
  const publish = nc.publish.bind(nc);
  nc.publish = (...said) => {
    if (!nc.isDraining() && !nc.isClosed()) publish(...said);
  };
}

/**
 * Makes every subscription survive its callback. The client stops reading from the socket for good when one throws, and the
 * process goes deaf while it looks alive.
 */
function guardCallbacks(nc: NatsConnection, failed: (error: unknown) => void): void {
  const subscribe = nc.subscribe.bind(nc);
  nc.subscribe = (subject, options) => {
    const { callback } = options ?? {};
    if (!callback) return subscribe(subject, options);
    return subscribe(subject, {
      ...options,
      callback(error, message) {
        try {
          callback(error, message);
        } catch (thrown) {
          failed(thrown);
        }
      },
    });
  };
}

function connectionOptions(options: NatsOptions): ConnectionOptions {
  const { creds, nkey, token, user, password, tlsCa, tlsCert, tlsKey } = options;
  const servers = typeof options.servers === "string" ? options.servers : [...options.servers];
  return {
    servers,
    name: options.name,
    inboxPrefix: options.inboxPrefix,
    // A stack trace per request would cost more than the request.
    noAsyncTraces: true,
    // Wrong credentials may be mended at the broker; until then it is as if it were away.
    ignoreAuthErrorAbort: true,
    waitOnFirstConnect: options.waitAtStart ?? true,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RECONNECT_WAIT_MS,
    reconnectJitter: RECONNECT_JITTER_MS,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: MAX_PINGS_OUT,
    ...(creds && { authenticator: credsAuthenticator(readFileSync(creds)) }),
    ...(nkey && { authenticator: nkeyAuthenticator(Buffer.from(readFileSync(nkey, "utf8").trim())) }),
    ...(token && { token }),
    ...(user && { user }),
    ...(password && { pass: password }),
    ...((tlsCa || tlsCert || tlsKey) && {
      tls: {
        ...(tlsCa && { caFile: tlsCa }),
        ...(tlsCert && { certFile: tlsCert }),
        ...(tlsKey && { keyFile: tlsKey }),
      },
    }),
  };
}
