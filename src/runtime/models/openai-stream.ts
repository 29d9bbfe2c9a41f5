/**
 * Reads the answer to a chat completion request off its connection.
 *
 * 1. The promise settles once, and from then on nothing of the answer reaches `onDelta`.
 * 2. A stream without `[DONE]` and without a finish reason never counts as complete.
 * 3. Silence is bounded: between two pieces at most `silenceMs` pass.
 * 4. Whatever happens, the connection ends up reusable or destroyed.
 */
import type { IncomingMessage } from "node:http";
import type { ModelReply } from "../../actors/model.ts";
import { malformedReply, providerSilent, streamCut, streamedError } from "./openai-errors.ts";
import { type Chunk, ReplyAssembler } from "./openai-reply.ts";

export type ReadOptions = {
  /** Opens the messages of errors. */
  where: string;
  /** The model that was asked for, in case the answer does not say which one gave it. */
  model: string;
  signal: AbortSignal;
  /** The longest pause between two pieces, in milliseconds. */
  silenceMs: number;
  onDelta?: (text: string) => void;
};

/**
 * Reads server-sent events, or one JSON document from servers that ignore `stream: true`. Rejects with a `ModelError`, or
 * with the signal's reason.
 */
export function readReply(message: IncomingMessage, options: ReadOptions): Promise<ModelReply> {
  const { where, signal, silenceMs } = options;
  const reply = new ReplyAssembler(options.model, options.onDelta);
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
  readonly #reply: ReplyAssembler;
  readonly #where: string;
  #kind: "unknown" | "events" | "document" = "unknown";
  #rest = "";
  /** The `data` lines of the event at hand. */
  #event = "";

  constructor(reply: ReplyAssembler, where: string) {
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
      const completion = this.#readChunk(this.#rest);
      if (!completion.choices) throw malformedReply(this.#where, this.#rest);
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
      if (line.startsWith("<")) throw malformedReply(this.#where, line);
      return false;
    }
    const event = this.#event;
    this.#event = "";
    if (event === "[DONE]") return true;
    if (event !== "") this.#readChunk(event);
    return false;
  }

  #readChunk(json: string): Chunk {
    let chunk: Chunk;
    try {
      chunk = JSON.parse(json);
    } catch {
      throw malformedReply(this.#where, json);
    }
    if (chunk.error) throw streamedError(chunk.error, this.#where);
    this.#reply.add(chunk);
    return chunk;
  }
}
