/** A request as it comes through the door: an envelope, or a body that is the input itself. docs/protocol.md has the rules. */
import { hash } from "node:crypto";
import { z } from "zod";
import type { ValueRef } from "../../actors/value-ref.ts";
import type { RunRequest } from "../../workflows/run-events.ts";
import type { JsMsg } from "../nats/nats.ts";
import { isToken, RUN_ID_HEADER, TRACEPARENT_HEADER } from "../subjects.ts";

/** What a message at the door asks for; `problem` says why it cannot be a run. */
export type IncomingRequest = {
  workflow: string;
  runId: string;
  request: RunRequest;
  /** Values of the request that are elsewhere. */
  refs?: readonly ValueRef[];
  traceparent?: string;
  problem?: string;
};

const RUN_ID = 'expected 1 to 128 letters, digits, "-" or "_"';

const REPLY_TO = "expected a NATS subject without wildcards, outside `$…`";
// Tokens of printable characters: whitespace would end the subject on the wire and begin something else.
const REPLY_SUBJECT = /^(?!\$)[^\s.*>\p{Cc}]+(\.[^\s.*>\p{Cc}]+)*$/u;
const LONGEST_SUBJECT = 512;

/** Whether a result may be sent there: the daemon has rights that whoever asks has not, as over JetStream's own subjects. */
function isReplySubject(subject: string): boolean {
  return subject.length <= LONGEST_SUBJECT && REPLY_SUBJECT.test(subject);
}

// A hundred years: what has to be added to an instant must stay within what instants can say.
const LONGEST_TIMEOUT_MS = 100 * 365 * 86_400_000;

const LONGEST_VERSION = 200;

/** The envelope's fields apart from `input`; the API checks its requests with the same. */
export const requestFields = {
  version: z.string().min(1).max(LONGEST_VERSION).optional(),
  runId: z.string({ error: RUN_ID }).refine(isToken, { error: RUN_ID }).optional(),
  sessionId: z.string().min(1).optional(),
  userId: z.string().min(1).optional(),
  metadata: z.record(z.string(), z.unknown()).optional(),
  notBefore: z.iso
    .datetime({ offset: true, error: "expected an ISO 8601 instant such as 2030-01-31T09:00:00Z" })
    .optional(),
  timeoutMs: z.number().int().positive().max(LONGEST_TIMEOUT_MS).optional(),
  replyTo: z.string({ error: REPLY_TO }).refine(isReplySubject, { error: REPLY_TO }).optional(),
};

const REFS = "expected a list of {at, ref, bytes, sha256}";

/** Where the values are that are not in the envelope. */
export const refsField = z
  .array(z.strictObject({ at: z.string(), ref: z.string(), bytes: z.number(), sha256: z.string() }), { error: REFS })
  .optional();

const RETRY_OF = "expected {runId, hash, from?}: a run, the definition it was bound to, and a step of it";
const retryOfField = z
  .strictObject(
    {
      runId: z.string({ error: RETRY_OF }).refine(isToken, { error: RETRY_OF }),
      hash: z.string({ error: RETRY_OF }).min(1, { error: RETRY_OF }),
      from: z.string({ error: RETRY_OF }).min(1, { error: RETRY_OF }).optional(),
    },
    { error: RETRY_OF },
  )
  .optional();

/** Said by daemons of the runs that steps ask for. */
const parentField = z
  .strictObject({
    runId: z.string().refine(isToken),
    step: z.string().min(1),
    taskId: z.string().min(1),
    depth: z.number().int().min(1),
  })
  .optional();

const envelopeSchema = z.strictObject({
  input: z.unknown(),
  refs: refsField,
  ...requestFields,
  retryOf: retryOfField,
  parent: parentField,
});

/** Reads a message of the door. Nothing is refused here: what is wrong becomes a failed run that says so. */
export function readRequest(message: JsMsg): IncomingRequest {
  const [prefix = ""] = message.subject.split(".");
  const workflow = message.subject.slice(message.subject.lastIndexOf(".") + 1);
  const given = message.headers?.get(RUN_ID_HEADER) || message.headers?.get("Nats-Msg-Id");
  const traceparent = message.headers?.get(TRACEPARENT_HEADER);
  const base = { workflow, ...(traceparent && { traceparent }) };
  const fallbackId = given ? idOf(given) : derivedId(message);

  const body = parseBody(message);
  if (!isEnvelope(body)) return { ...base, runId: fallbackId, request: { input: body } };

  const parsed = envelopeSchema.safeParse(body);
  if (!parsed.success) {
    const problem = parsed.error.issues
      .map((issue) => `${issue.path.join(".") || "request"}: ${issue.message}`)
      .join("; ");
    const replyTo = requestFields.replyTo.safeParse(body.replyTo).data;
    const mayReply = replyTo !== undefined && !replyTo.startsWith(`${prefix}.`);
    // Whoever chose an id looks for the run, and its error, under it.
    const runId = requestFields.runId.safeParse(body.runId).data ?? fallbackId;
    return { ...base, runId, request: { input: body.input, ...(mayReply && { replyTo }) }, problem };
  }
  const { runId = fallbackId, replyTo, refs, ...rest } = parsed.data;
  if (replyTo?.startsWith(`${prefix}.`)) {
    const problem = `replyTo: expected a subject outside \`${prefix}.\`, got ${JSON.stringify(replyTo)}`;
    return { ...base, runId, request: { input: rest.input }, problem };
  }
  const request = { ...rest, replyTo };
  return { ...base, runId, request: withoutUndefined(request) as RunRequest, ...(refs && { refs }) };
}

function parseBody(message: JsMsg): unknown {
  const text = message.string();
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function isEnvelope(body: unknown): body is { [key: string]: unknown; input: unknown } {
  return typeof body === "object" && body !== null && !Array.isArray(body) && Object.hasOwn(body, "input");
}

/** A message id that cannot be a run id stands for one all the same, always for the same one. */
function idOf(given: string): string {
  return isToken(given) ? given : `m${hash("sha256", given, "hex").slice(0, 32)}`;
}

/** The same for every delivery of one stored message, and never the same for two: a recreated stream counts from 1 again. */
function derivedId({ info, seq }: JsMsg): string {
  return `r${Math.floor(info.timestampNanos / 1_000).toString(36)}-${seq.toString(36)}`;
}

function withoutUndefined(object: object): object {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
