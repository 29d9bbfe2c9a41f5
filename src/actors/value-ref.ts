/** Where a value is that was too large for its message (docs/protocol.md, "Large values"). */
export type ValueRef = {
  /** Its place in the message as a JSON Pointer (RFC 6901); the message itself has nothing there. */
  at: string;
  /** `obj:<bucket>/<name>`: an object in JetStream's object store, which is the value as JSON in UTF-8. */
  ref: string;
  /** The object's length. */
  bytes: number;
  /** The SHA-256 of the object, in hex. */
  sha256: string;
};

/** A message some of whose values may be elsewhere. */
export type WithRefs = { refs?: readonly ValueRef[] };

/** References as a part of their message has them: those under `at`, which is taken off. */
export function refsUnder({ refs = [] }: WithRefs, at: string): ValueRef[] {
  return refs.filter((ref) => ref.at.startsWith(`${at}/`)).map((ref) => ({ ...ref, at: ref.at.slice(at.length) }));
}

/** Whether a message leaves a field to a reference. */
export function isReferred({ refs }: { refs?: unknown }, at: string): boolean {
  return Array.isArray(refs) && refs.some((ref: ValueRef | null) => ref?.at === at);
}
