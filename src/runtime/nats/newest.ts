/**
 * A stream that keeps the newest message of each subject. What is in it can be made again, so nothing waits for it: one try,
 * and the answer is whether it is stored.
 *
 * Invariants
 * W1  A message replaces only the one its writer knows of: whoever is behind replaces nothing.
 */
import { PayloadTooLargeError, UnavailableError } from "../../errors.ts";
import type { Bus } from "./connection.ts";

/** The newest message of a subject. */
export type Newest = { seq: number; data: Uint8Array };

export type NewestMessages = {
  /** The newest message, from the stream's leader; undefined where there is none. */
  get(subject: string): Promise<Newest | undefined>;
  /**
   * Puts a message in the place of the one at `expected` (0: of none) and gives back its sequence; undefined where another one
   * stands there.
   *
   * @throws PayloadTooLargeError; UnavailableError when it is not known to be stored.
   */
  put(subject: string, data: Uint8Array, expected: number): Promise<number | undefined>;
  /** Deletes a subject's message. */
  purge(subject: string): Promise<void>;
};

type Answer = {
  seq?: number;
  message?: { seq: number; data?: string };
  error?: { err_code?: number; description?: string };
};

const TIMEOUT_MS = 5_000;
const NO_MESSAGE_FOUND = 10_037;
// Since 2.12 there are two codes for a wrong expectation.
const WRONG_LAST_SEQUENCE = new Set([10_071, 10_164]);
// What the broker counts beside the body.
const ENVELOPE_BYTES = 128;

/** Opens the newest messages of `stream`. */
export function openNewest(bus: Bus, stream: string): NewestMessages {
  return {
    async get(subject) {
      const { message, error } = await ask(
        `$JS.API.STREAM.MSG.GET.${stream}`,
        JSON.stringify({ last_by_subj: subject }),
      );
      if (error?.err_code === NO_MESSAGE_FOUND) return undefined;
      if (!message) throw refused(subject, error);
      return { seq: message.seq, data: Buffer.from(message.data ?? "", "base64") };
    },

    async put(subject, data, expected) {
      const limit = bus.nc.info?.max_payload ?? Number.POSITIVE_INFINITY;
      if (data.length + ENVELOPE_BYTES > limit) throw new PayloadTooLargeError(subject, data.length, limit);
      // W1
      const header = ["Nats-Expected-Last-Subject-Sequence", String(expected)] as const;
      const { seq, error } = await ask(subject, data, header);
      if (error && WRONG_LAST_SEQUENCE.has(error.err_code ?? 0)) return undefined;
      if (error || seq === undefined) throw refused(subject, error);
      return seq;
    },

    async purge(subject) {
      await (await bus.jsm()).streams.purge(stream, { filter: subject });
    },
  };

  async function ask(subject: string, data: Uint8Array | string, header?: readonly [string, string]): Promise<Answer> {
    const reply = await bus.request(subject, data, { timeoutMs: TIMEOUT_MS, ...(header && { header }) });
    return reply.json<Answer>();
  }
}

function refused(subject: string, error: Answer["error"]): UnavailableError {
  return new UnavailableError(`${subject}: ${error?.description ?? "no message in the answer"}`);
}
