/**
 * Puts large values back where messages refer to them, with the client's own object store and none of the code under test: an
 * object has to be there, as long as was said, and of the content that was said.
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { NatsConnection, ObjectStore } from "nats";

type Ref = { at: string; ref: string; bytes: number; sha256: string };
type Holder = { [field: string]: unknown };

const AGAIN_MS = 200;

/** Makes what a message holds whole, in place, as soon as the broker lets it be read. */
export function openWholeValues(nc: NatsConnection, onProblem: (problem: string) => void) {
  const stores = new Map<string, Promise<ObjectStore>>();
  return async function whole<T>(message: T): Promise<T> {
    for (const holder of holdersIn(message)) {
      const refs = holder.refs as Ref[] | undefined;
      if (!refs) continue;
      delete holder.refs;
      for (const ref of refs) put(holder, ref.at, await valueAt(ref));
    }
    return message;
  };

  async function valueAt({ ref, bytes, sha256 }: Ref): Promise<unknown> {
    const [, bucket = "", name = ""] = /^obj:([^/]+)\/(.+)$/.exec(ref) ?? [];
    const data = await get(bucket, name);
    const got = data && { bytes: data.length, sha256: createHash("sha256").update(data).digest("hex") };
    if (got?.bytes !== bytes || got.sha256 !== sha256) {
      onProblem(`${name}: expected an object of ${bytes} bytes and ${sha256}, got ${JSON.stringify(got)}`);
      return undefined;
    }
    return JSON.parse(Buffer.from(data as Uint8Array).toString("utf8"));
  }

  /** Again until the broker answers. */
  async function get(bucket: string, name: string): Promise<Uint8Array | null> {
    for (;;) {
      try {
        const opening = stores.get(bucket) ?? nc.jetstream().views.os(bucket);
        stores.set(bucket, opening);
        return await (await opening).getBlob(name);
      } catch {
        stores.delete(bucket);
        if (nc.isClosed()) return null;
        await sleep(AGAIN_MS);
      }
    }
  }
}

/** Whatever in a message may have `refs`: itself, each event of an entry, the outcome in a task's entry. */
function holdersIn(message: unknown): Holder[] {
  if (Array.isArray(message)) return message as Holder[];
  const holder = message as Holder;
  return typeof holder.outcome === "object" && holder.outcome ? [holder, holder.outcome as Holder] : [holder];
}

/** Sets the value at a JSON Pointer; everything above it is there. */
function put(holder: Holder, at: string, value: unknown): void {
  const path = at.slice(1).split("/");
  const last = path.pop() as string;
  const parent = path.reduce<Holder>((inner, field) => inner[field] as Holder, holder);
  parent[last] = value;
}
