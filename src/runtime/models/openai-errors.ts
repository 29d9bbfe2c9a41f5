/** From whatever a provider or the way to it does wrong to a `ModelError`: which code, and is it worth another try. */
import { APIConnectionError, APIConnectionTimeoutError, APIError } from "openai";
import { ModelError } from "../../errors.ts";

type Class = { code: string; retryable: boolean };

const fatal = (code: string): Class => ({ code, retryable: false });
const retry = (code: string): Class => ({ code, retryable: true });

/** What is known of a provider's refusal; `status` is missing when it came in the middle of a stream. */
type Refusal = { status?: number | undefined; code?: unknown; type?: unknown; message: string };

/** How servers without the code `context_length_exceeded` say it. */
const TOO_LONG = /context.{0,20}(length|window)|maximum.{0,20}tokens|too many (input )?tokens|prompt is too long/i;

/** Puts a failed call into a `ModelError`; `where` opens the message. */
export function toModelError(thrown: unknown, where: string): ModelError {
  if (thrown instanceof ModelError) return thrown;
  if (thrown instanceof APIConnectionTimeoutError) {
    return modelError(retry("provider_timeout"), `${where}: expected a reply in time, got none`, thrown);
  }
  if (thrown instanceof APIConnectionError) {
    const reason = thrown.cause instanceof Error ? describe(thrown.cause) : thrown.message;
    return modelError(retry("connection_failed"), `${where}: expected a connection, got ${reason}`, thrown);
  }
  if (thrown instanceof APIError) {
    const { status, code, type, message, headers } = thrown as APIError;
    const target = status !== undefined && status < 400 ? headers?.get("location") : undefined;
    const got = target ? `a redirect to ${target}: set baseURL to where that leads` : message;
    return modelError(
      classify({ status, code, type, message }),
      `${where}: expected a reply, got ${got}`,
      thrown,
      headers,
    );
  }
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  return modelError(fatal("model_failed"), `${where}: expected a reply, got an error: ${reason}`, thrown);
}

/** An `{"error": …}` object in the middle of a stream. */
export function streamedError(error: unknown, where: string): ModelError {
  const { code, type, message } = (typeof error === "object" && error !== null ? error : {}) as Refusal;
  const text = typeof message === "string" ? message : JSON.stringify(error);
  const status = typeof code === "number" && code >= 400 && code < 600 ? code : undefined;
  const found = classify({ status, code, type, message: text });
  return new ModelError(found.code, `${where}: expected the rest of the reply, got ${text}`, found);
}

/** The stream ended before the provider said how the answer ends. */
export function streamCut(where: string, cause?: unknown): ModelError {
  const reason = cause instanceof Error ? ` (${cause.message})` : "";
  return modelError(
    retry("stream_cut"),
    `${where}: expected the rest of the reply, got the end of the stream${reason}`,
    cause,
  );
}

/** What came is not what was expected. */
export function malformedReply(where: string, expected: string, got: string): ModelError {
  const excerpt = got.length > 120 ? `${got.slice(0, 120)}…` : got;
  return modelError(retry("malformed_reply"), `${where}: expected ${expected}, got ${JSON.stringify(excerpt)}`);
}

/** Nothing came for too long. */
export function providerSilent(where: string, silenceMs: number): ModelError {
  return modelError(
    retry("provider_timeout"),
    `${where}: expected a piece of the reply within ${silenceMs} ms, got none`,
  );
}

function classify({ status, code, type, message }: Refusal): Class {
  const words = `${code ?? ""} ${type ?? ""}`;
  if (status === 402 || /insufficient_quota|billing/.test(words)) return fatal("insufficient_quota");
  if (/context_length_exceeded/.test(words)) return fatal("context_length_exceeded");
  if (/content_filter|content_policy/.test(words)) return fatal("content_filter");
  if (status === undefined) return classifyByWords(words);
  if (status >= 400 && status < 500 && status !== 429 && TOO_LONG.test(message))
    return fatal("context_length_exceeded");
  return classifyByStatus(status);
}

function classifyByStatus(status: number): Class {
  if (status === 401 || status === 403) return fatal("unauthorized");
  if (status === 404) return fatal("model_not_found");
  if (status === 408 || status === 504) return retry("provider_timeout");
  if (status === 429) return retry("rate_limited");
  if (status === 409 || status >= 500) return retry("provider_unavailable");
  return fatal("bad_request");
}

function classifyByWords(words: string): Class {
  if (/rate_limit/.test(words)) return retry("rate_limited");
  if (/authentication|api_key|permission/.test(words)) return fatal("unauthorized");
  if (/model_not_found/.test(words)) return fatal("model_not_found");
  if (/_policy/.test(words)) return fatal("content_filter");
  if (/invalid_|bad_request/.test(words)) return fatal("bad_request");
  return retry("provider_unavailable");
}

function modelError({ code, retryable }: Class, message: string, cause?: unknown, headers?: Headers): ModelError {
  const retryAfterMs = retryable && headers ? readRetryAfter(headers) : undefined;
  return new ModelError(code, message, {
    retryable,
    ...(cause === undefined ? {} : { cause }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** Milliseconds; `retry-after-ms` is OpenAI's own, `Retry-After` is seconds or a date (RFC 9110, section 10.2.3). */
function readRetryAfter(headers: Headers): number | undefined {
  const exact = toNumber(headers.get("retry-after-ms"));
  if (exact !== undefined) return exact;
  const text = headers.get("retry-after");
  const seconds = toNumber(text);
  if (seconds !== undefined) return seconds * 1000;
  const instant = text === null ? Number.NaN : Date.parse(text);
  return Number.isNaN(instant) ? undefined : Math.max(0, instant - Date.now());
}

function toNumber(text: string | null): number | undefined {
  const number = text === null || text.trim() === "" ? Number.NaN : Number(text);
  return Number.isFinite(number) && number >= 0 ? number : undefined;
}

/** Errors that tried several addresses have no message of their own. */
function describe(error: Error): string {
  if (error instanceof AggregateError) return error.errors.map((inner) => (inner as Error).message).join("; ");
  return error.message || error.name;
}
