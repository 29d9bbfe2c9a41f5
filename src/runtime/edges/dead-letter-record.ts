/** A dead letter with its message as people and programs want it: unpacked. */
import { isUtf8 } from "node:buffer";
import { messageOf } from "../hosts/dead-letters.ts";
import type { DeadLetterAnswer, DeadLetterSummary } from "./dead-api.ts";

export type DeadLetterRecord = DeadLetterSummary & {
  /** The message, or where `whole` is false the beginning of it. */
  data: string;
  /** `data` is in base64, for the message is not text. */
  encoding?: "base64";
};

/** Unpacks the message of a letter. */
export function openDeadLetter(letter: DeadLetterAnswer): DeadLetterRecord {
  const { v: _v, cut: _cut, encoding: _encoding, data, ...summary } = letter;
  const message = messageOf(letter);
  if (!message) return { ...summary, data };
  const bytes = Buffer.from(message);
  return isUtf8(bytes)
    ? { ...summary, data: bytes.toString() }
    : { ...summary, data: bytes.toString("base64"), encoding: "base64" };
}
