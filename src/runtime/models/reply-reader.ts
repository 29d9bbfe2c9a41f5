/** What puts a model's reply together from what comes off the wire, whichever of the two APIs it is. */
import type { ModelReply } from "../../actors/model.ts";

export type ReplyReader = {
  /** What is read, in the words of an error message. */
  readonly what: string;
  /** Whether the provider has said how the answer ended. */
  readonly finished: boolean;
  /** Whether nothing more can come. */
  readonly ended: boolean;
  /** Takes the next event's data; gives back the error it carries, if it does. */
  add(data: unknown): object | undefined;
  /** Takes a whole answer in one document: an error it carries, or whether it is an answer at all. */
  addWhole(document: unknown): object | boolean;
  /** The reply as far as it came. */
  reply(): ModelReply;
};

/** Who wants to hear of a reply before it is whole. */
export type ReplyListener = {
  onDelta?: ((text: string) => void) | undefined;
  onReasoning?: ((text: string) => void) | undefined;
};
