/** Values that are not in their message: taking them out, putting them back, and standing in for them meanwhile. */
import type { ValueRef, WithRefs } from "../../actors/value-ref.ts";

/** A value that is elsewhere, in the place where it belongs: it is carried along without being loaded. */
class LargeValue {
  readonly ref: Omit<ValueRef, "at">;

  constructor({ ref, bytes, sha256 }: Omit<ValueRef, "at">) {
    this.ref = { ref, bytes, sha256 };
  }
}

/** What stands at a JSON Pointer; undefined where nothing does. */
export function valueAt(message: unknown, at: string): unknown {
  let value = message;
  for (const key of keysOf(at)) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as { [key: string]: unknown })[key];
  }
  return value;
}

/** The message with `value` at a JSON Pointer; undefined takes out what is there. The message itself stays as it is. */
export function withValueAt<T>(message: T, at: string, value: unknown): T {
  return placed(message, keysOf(at), value) as T;
}

/** The message with stand-ins where its references say. */
export function standIns<T extends object>(message: T): T {
  const { refs = [], ...rest } = message as T & WithRefs;
  if (refs.length === 0) return message;
  return refs.reduce<T>((whole, ref) => withValueAt(whole, ref.at, new LargeValue(ref)), rest as T);
}

/** The message with references in place of its stand-ins, wherever they are. */
export function withRefs<T extends object>(message: T): T & WithRefs {
  const refs: ValueRef[] = [];
  find(message, "", refs);
  if (refs.length === 0) return message;
  const rest = refs.reduce<T>((left, { at }) => withValueAt(left, at, undefined), message);
  return { ...rest, refs };
}

function find(value: unknown, at: string, refs: ValueRef[]): void {
  if (typeof value !== "object" || value === null) return;
  if (value instanceof LargeValue) {
    refs.push({ at, ...value.ref });
    return;
  }
  for (const [key, inner] of Object.entries(value)) {
    find(inner, `${at}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`, refs);
  }
}

function keysOf(at: string): string[] {
  return at
    .split("/")
    .slice(1)
    .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function placed(node: unknown, [key, ...rest]: string[], value: unknown): unknown {
  if (key === undefined) return value;
  const inner = (): unknown =>
    placed(valueAt(node, `/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`), rest, value);
  if (Array.isArray(node)) return node.map((item, i) => (String(i) === key ? inner() : item));
  const before = typeof node === "object" && node !== null ? Object.entries(node) : [];
  // Entries, because a key may be `__proto__`.
  const others = before.filter(([other]) => other !== key);
  const made = rest.length === 0 && value === undefined ? [] : [[key, inner()] as const];
  return Object.fromEntries([...others, ...made]);
}
