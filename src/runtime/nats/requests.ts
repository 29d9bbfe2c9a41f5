/**
 * Requests over one shared reply subscription, for the paths that every step of every run takes. The client's own `request`
 * makes an error object and a timer for each call; this does neither.
 *
 * Invariants
 * Q1  Every request settles: by its answer, by the broker's "no responders", by a denial, by its deadline, or when the
 *     connection is lost or back (the question or its answer was lost with it, so waiting on would be in vain).
 * Q2  An answer that comes after its request has settled is dropped.
 */
import { PermissionError, TroupeError, UnavailableError } from "../../errors.ts";
import { TransientMap } from "../transient-map.ts";
import { Events, type Msg, type NatsConnection, NatsError, rawHeaders } from "./nats.ts";

type RequestOptions = {
  /** How long to wait, in milliseconds; kept to within a quarter of a second. @default 5000 */
  timeoutMs?: number;
  /** One header. */
  header?: readonly [name: string, value: string];
};

/** Nobody subscribes to the subject. */
export class NoRespondersError extends TroupeError {
  constructor(subject: string) {
    super("no_responders", `${subject}: nobody listens`);
  }
}

export type Requests = {
  /**
   * Asks and waits for one answer.
   *
   * @throws NoRespondersError, PermissionError, or UnavailableError when there is no answer in time or the connection is lost.
   */
  request(subject: string, data: Uint8Array | string, options?: RequestOptions): Promise<Msg>;
  /** What was published before this instant of `performance.now()` has reached the broker: it answered what was asked then. */
  reachedAt(): number;
};

type Pending = {
  readonly subject: string;
  readonly askedAt: number;
  readonly dueAt: number;
  readonly resolve: (answer: Msg) => void;
  readonly reject: (error: Error) => void;
};

const TICK_MS = 250;
const DEFAULT_TIMEOUT_MS = 5_000;

/** Opens requests on a connection; they end with it. */
export function openRequests(nc: NatsConnection, inbox: string): Requests {
  const pending = new TransientMap<string, Pending>();
  const prefixLength = inbox.length + 1;
  let count = 0;
  let reachedAt = Number.NEGATIVE_INFINITY;
  nc.subscribe(`${inbox}.*`, { callback: (error, message) => error ?? hear(message) });
  const ticker = setInterval(expire, TICK_MS);
  ticker.unref();
  void watch();
  // Not where the status ends, for a connection that is closed does not end it.
  void nc.closed().then(end);

  return {
    request(subject, data, { timeoutMs = DEFAULT_TIMEOUT_MS, header } = {}) {
      return new Promise((resolve, reject) => {
        if (nc.isClosed() || nc.isDraining()) {
          reject(new NatsError(`${subject}: the connection is closed`, "CONNECTION_CLOSED"));
          return;
        }
        const token = (count++).toString(36);
        const askedAt = performance.now();
        pending.set(token, { subject, askedAt, dueAt: askedAt + timeoutMs, resolve, reject });
        try {
          nc.publish(subject, data, {
            reply: `${inbox}.${token}`,
            ...(header && { headers: rawHeaders(header) }),
          });
        } catch (error) {
          pending.delete(token);
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    },
    reachedAt: () => reachedAt,
  };

  function hear(message: Msg) {
    const token = message.subject.slice(prefixLength);
    const asked = pending.get(token);
    // Q2
    if (!asked) return;
    pending.delete(token);
    reachedAt = Math.max(reachedAt, asked.askedAt);
    if (message.data.length === 0 && message.headers?.code === 503) asked.reject(new NoRespondersError(asked.subject));
    else asked.resolve(message);
  }

  function expire() {
    const now = performance.now();
    for (const [token, { dueAt, subject, reject }] of pending) {
      if (now < dueAt) continue;
      pending.delete(token);
      reject(new UnavailableError(`${subject}: no answer in time`));
    }
  }

  // Q1
  async function watch() {
    for await (const { type, permissionContext } of nc.status()) {
      // What is asked while the connection is away is not kept by the client: every new try to connect drops it.
      if (type === Events.Disconnect || type === Events.Reconnect) {
        rejectAll(({ subject }) => new UnavailableError(`${subject}: the connection was lost`));
      } else if (type === Events.Error && permissionContext?.operation === "publish") {
        const denied = permissionContext.subject;
        rejectAll(({ subject }) => (subject === denied ? new PermissionError(subject, "publish") : undefined));
      }
    }
  }

  function end() {
    clearInterval(ticker);
    rejectAll(({ subject }) => new UnavailableError(`${subject}: the connection is closed`));
  }

  function rejectAll(errorFor: (asked: Pending) => Error | undefined) {
    for (const [token, asked] of pending) {
      const error = errorFor(asked);
      if (!error) continue;
      pending.delete(token);
      asked.reject(error);
    }
  }
}
