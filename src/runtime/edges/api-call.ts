/**
 * One question to the API, asked until a daemon answers it: the daemon that took it may die before it does. Every endpoint
 * can be asked twice; `runs.start` because the caller fixes the run id.
 */
import { PayloadTooLargeError, type TroupeError, UnavailableError } from "../../errors.ts";
import { headers, type Msg, type NatsConnection, NatsError } from "../nats/nats.ts";
import { TRACEPARENT_HEADER } from "../subjects.ts";
import { abortable, sleep } from "./abortable.ts";
import { type ApiErrorBody, ERROR_CODE_HEADER, errorFromAnswer } from "./api-errors.ts";
import type { ApiName } from "./api-requests.ts";

type ApiCallOptions = {
  traceparent?: string | undefined;
  signal?: AbortSignal | undefined;
  /** The body for when it is too long for a message as it is, which takes `bytes`. */
  smaller?: (bytes: number) => Promise<object>;
};

export type ApiCaller = <T>(endpoint: ApiName, body: object, options?: ApiCallOptions) => Promise<T>;

export type ApiCallerOptions = {
  nc: NatsConnection;
  /** As in `troupe.api`. */
  root: string;
  /** How long a question is asked again, in milliseconds. */
  timeoutMs: number;
};

// A healthy daemon answers within milliseconds; one that has not after this long is asked past.
const ATTEMPT_MS = 2_000;
const PAUSE_MS = 200;

/** Makes the function that asks. It throws the service's own errors, `UnavailableError` when nobody answers in time. */
export function apiCaller({ nc, root, timeoutMs }: ApiCallerOptions): ApiCaller {
  return async <T>(endpoint: ApiName, body: object, { traceparent, signal, smaller }: ApiCallOptions = {}) => {
    const subject = `${root}.${endpoint}`;
    const limit = nc.info?.max_payload ?? Number.POSITIVE_INFINITY;
    const data = await encoded(body);
    if (data.length > limit) throw new PayloadTooLargeError(endpoint, data.length, limit);

    const giveUpAt = performance.now() + timeoutMs;
    for (;;) {
      signal?.throwIfAborted();
      const failure = await attempt();
      if ("answer" in failure) return failure.answer;
      const left = giveUpAt - performance.now();
      if (left <= PAUSE_MS) throw failure.error;
      await sleep(PAUSE_MS, signal);
    }

    /** What is too long is not kept while it is made smaller: it may be very long. */
    function encoded(body: object): Buffer | Promise<Buffer> {
      const whole = Buffer.from(JSON.stringify(body));
      if (whole.length <= limit || !smaller) return whole;
      return smaller(whole.length).then((left) => Buffer.from(JSON.stringify(left)));
    }

    async function attempt(): Promise<{ answer: T } | { error: TroupeError }> {
      const hdrs = headers();
      if (traceparent) hdrs.set(TRACEPARENT_HEADER, traceparent);
      const timeout = Math.max(PAUSE_MS, Math.min(ATTEMPT_MS, giveUpAt - performance.now()));
      try {
        return {
          answer: readAnswer<T>(await abortable(nc.request(subject, data, { headers: hdrs, timeout }), signal)),
        };
      } catch (error) {
        // Another daemon may do better.
        if (error instanceof UnavailableError) return { error };
        if (error instanceof NatsError) return { error: unansweredError(subject, error) };
        throw error;
      }
    }
  };
}

function readAnswer<T>(message: Msg): T {
  const number = message.headers?.get(ERROR_CODE_HEADER);
  if (!number) return message.json<T>();
  throw errorFromAnswer(Number(number), message.json<ApiErrorBody>());
}

/** @throws UnavailableError at once when waiting cannot help. */
function unansweredError(subject: string, cause: NatsError): UnavailableError {
  switch (cause.code) {
    case "503":
      return new UnavailableError(`${subject}: no daemon is there to answer`, { cause });
    case "TIMEOUT":
      return new UnavailableError(`${subject}: no daemon answered in time`, { cause });
    default:
      throw cause;
  }
}
