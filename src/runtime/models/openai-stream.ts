/**
 * Reads the answer to a request off its connection, whichever of the two APIs it is.
 *
 * 1. The promise settles once, and from then on nothing of the answer reaches `onDelta`.
 * 2. A stream without an end of its own (`[DONE]`, or the event that says so) and without a finish reason never counts as complete.
 * 3. Silence is bounded: between two pieces at most `silenceMs` pass.
 * 4. Whatever happens, the connection ends up reusable or destroyed.
 */
import type { IncomingMessage } from "node:http";
import type { ModelReply } from "../../actors/model.ts";
import type { ModelError } from "../../errors.ts";
import { malformedReply, providerSilent, streamCut, streamedError } from "./openai-errors.ts";
import type { ReplyReader } from "./reply-reader.ts";

export type ReadOptions = {
  /** Opens the messages of errors. */
  where: string;
  signal: AbortSignal;
  /** The longest pause between two pieces, in milliseconds. */
  silenceMs: number;
};

/**
 * Reads server-sent events, or one JSON document from servers that ignore `stream: true`. Rejects with a `ModelError`, or
 * with the signal's reason.
 */
export function readReply(message: IncomingMessage, reply: ReplyReader, options: ReadOptions): Promise<ModelReply> {
  const { where, signal, silenceMs } = options;
  const body = new BodyReader(reply, where);
  return new Promise((resolve, reject) => {
    let settled = false; // I1
    const settle = () => {
      settled = true;
      message.off("data", onData).off("end", onEnd).off("close", onEnd);
      signal.removeEventListener("abort", onAbort);
    };
    const fail = (error: unknown) => {
      settle();
      clearTimeout(silence);
      message.destroy(); // I4
      reject(error);
    };
    const succeed = () => {
      settle();
      resolve(reply.reply());
      // I4: the rest is read so that the connection can be used again; a server that does not end it loses it.
      message.resume().once("close", () => clearTimeout(silence));
      silence.unref();
    };
    const onSilence = () => {
      if (!settled && reply.finished) succeed();
      if (!settled) fail(providerSilent(where, silenceMs));
      message.destroy(); // I4
    };
    const onData = (text: string) => {
      silence.refresh(); // I3
      try {
        if (body.add(text)) succeed();
      } catch (error) {
        fail(error);
      }
    };
    const onEnd = (cause?: unknown) => {
      try {
        // What a broken connection left behind is no whole event; an answer that was finished before is one.
        if (message.complete ? body.end() : reply.finished) succeed();
        else fail(streamCut(where, cause)); // I2
      } catch (error) {
        fail(error);
      }
    };
    const onAbort = () => fail(signal.reason);

    const silence = setTimeout(onSilence, silenceMs);
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    message.setEncoding("utf8");
    message.on("data", onData).on("end", onEnd).on("close", onEnd);
    // Stays on: an error nobody listens to would end the process.
    message.on("error", (error) => {
      if (!settled) onEnd(error);
    });
  });
}

/** Splits a body into chunks. The first character that is not space tells events from a JSON document. */
class BodyReader {
  readonly #reply: ReplyReader;
  readonly #where: string;
  #kind: "unknown" | "events" | "document" = "unknown";
  #rest = "";
  /** The `data` lines of the event at hand. */
  #event = "";

  constructor(reply: ReplyReader, where: string) {
    this.#reply = reply;
    this.#where = where;
  }

  /** Takes the next piece; true once the answer is complete. */
  add(text: string): boolean {
    this.#rest += text;
    if (this.#kind === "unknown" && this.#rest.trim() !== "") {
      this.#kind = this.#rest.trimStart().startsWith("{") ? "document" : "events";
    }
    return this.#kind === "events" && this.#readLines();
  }

  /** Takes the end of the body; true when the answer is complete. */
  end(): boolean {
    if (this.#kind === "document") {
      const end = this.#reply.addWhole(this.#parse(this.#rest));
      if (typeof end === "object") throw this.#refusal(end);
      if (!end) throw this.#malformed(this.#rest);
      return true;
    }
    // Some servers leave out the empty line after the last event.
    this.#rest += "\n\n";
    return this.#readLines() || this.#reply.finished;
  }

  #readLines(): boolean {
    let from = 0;
    let done = false;
    for (;;) {
      const to = this.#rest.indexOf("\n", from);
      if (to === -1) break;
      const line = this.#rest.slice(from, this.#rest.charCodeAt(to - 1) === 13 && to > from ? to - 1 : to);
      from = to + 1;
      done = this.#readLine(line) || done;
    }
    this.#rest = this.#rest.slice(from);
    return done;
  }

  /** True for the end marker. */
  #readLine(line: string): boolean {
    if (line.startsWith("data:")) {
      const data = line.slice(line.charCodeAt(5) === 32 ? 6 : 5);
      this.#event = this.#event === "" ? data : `${this.#event}\n${data}`;
      return false;
    }
    if (line !== "") {
      if (line.startsWith("<")) throw this.#malformed(line);
      return false;
    }
    const event = this.#event;
    this.#event = "";
    if (event === "[DONE]") return true;
    if (event === "") return false;
    const error = this.#reply.add(this.#parse(event));
    if (error) throw this.#refusal(error);
    return this.#reply.ended;
  }

  #parse(json: string): unknown {
    try {
      return JSON.parse(json);
    } catch {
      throw this.#malformed(json);
    }
  }

  #malformed(got: string): ModelError {
    return malformedReply(this.#where, this.#reply.what, got);
  }

  #refusal(error: object): ModelError {
    return streamedError("error" in error ? error.error : error, this.#where);
  }
}
