/** A cassette: what a model was asked and what it answered, as a file that people read and commit. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parse, stringify } from "yaml";
import type { ModelReply, ModelRequest } from "../actors/model.ts";
import { type ErrorRecord, UsageError } from "../errors.ts";
import { hideSecrets, type Secrets } from "./hide-secrets.ts";

/** One call and what became of it. */
export type CassetteCall = { agent: string; request: ModelRequest } & (
  | { reply: ModelReply }
  | { error: CassetteError }
);

/** `retryAfterMs` is how long the provider asked to wait, in milliseconds. */
export type CassetteError = ErrorRecord & { retryAfterMs?: number };

export type Cassette = {
  cassette: 1;
  /** The provider's name, for traces. */
  provider: string;
  calls: CassetteCall[];
};

export type CassetteOptions = {
  /**
   * Values to keep out of the file, by name. Values of environment variables called `…KEY`, `…TOKEN`, `…SECRET` or
   * `…PASSWORD` are, and what has the shape of a key.
   */
  secrets?: Secrets;
};

const ABOUT =
  "# What a model was asked and answered, recorded by recordModel of troupe/testing. Record it again when it does not fit.\n";

/** Writes the whole cassette at once: as JSON where the file's name ends so, else as YAML. */
export function writeCassette(file: string, cassette: Cassette): void {
  mkdirSync(dirname(file), { recursive: true });
  const text = isJson(file)
    ? `${JSON.stringify(cassette, null, 2)}\n`
    : `${ABOUT}${stringify(cassette, { aliasDuplicateObjects: false, lineWidth: 0 })}`;
  const draft = `${file}.${process.pid}.part`;
  writeFileSync(draft, text);
  renameSync(draft, file);
}

/**
 * Reads a cassette.
 *
 * @throws UsageError when it is not there, or is none.
 */
export function readCassette(file: string): Cassette {
  const found = readAs(file);
  const { cassette, provider, calls } = (found ?? {}) as Partial<Cassette>;
  if (cassette !== 1) throw wrong(file, "cassette", "1", cassette);
  if (typeof provider !== "string") throw wrong(file, "provider", "a name", provider);
  if (!Array.isArray(calls)) throw wrong(file, "calls", "a list of calls", calls);
  for (const [i, call] of calls.entries()) checkCall(file, `calls[${i}]`, call);
  return { cassette, provider, calls };
}

/** Makes what gives values the form a cassette has: plain JSON without secrets. */
export function plainWith({ secrets }: CassetteOptions): <T>(value: T) => T {
  const hide = hideSecrets(secrets);
  return <T>(value: T) => hide(JSON.parse(JSON.stringify(value)) as T);
}

function readAs(file: string): unknown {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new UsageError(`${file}: expected a cassette, which recordModel makes, got none (${reason})`, "no_cassette");
  }
  try {
    return isJson(file) ? JSON.parse(text) : parse(text);
  } catch (error) {
    throw new UsageError(`${file}: expected a cassette, got ${error instanceof Error ? error.message : String(error)}`);
  }
}

function checkCall(file: string, at: string, call: Partial<CassetteCall> | null): void {
  if (typeof call?.agent !== "string") throw wrong(file, `${at}.agent`, "a name", call?.agent);
  if (!Array.isArray(call.request?.messages)) throw wrong(file, `${at}.request`, "a request", call.request);
  if ("reply" in call && Array.isArray(call.reply?.toolCalls)) return;
  if ("error" in call && typeof call.error?.code === "string") return;
  throw wrong(file, at, "`reply` or `error`", Object.keys(call));
}

function wrong(file: string, at: string, expected: string, got: unknown): UsageError {
  return new UsageError(`${file}: ${at}: expected ${expected}, got ${JSON.stringify(got) ?? "nothing"}`);
}

function isJson(file: string): boolean {
  return file.endsWith(".json");
}
