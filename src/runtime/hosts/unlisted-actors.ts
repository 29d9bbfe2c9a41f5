/**
 * XState lists the actors of a system in a `Map` by session id, which nothing reads. Like every long-lived `Map` of short-lived
 * values it keeps the garbage collector from clearing them young (`transient-map.ts`), here whole tasks with their conversations.
 */
import type { AnyActorRef } from "xstate";

type Lists = { _register?: (sessionId: string) => string };

/** Keeps the system of `actor` from listing its actors. Not part of XState's types; where it is missing nothing changes. */
export function unlisted<A extends AnyActorRef>(actor: A): A {
  const system = actor.system as unknown as Lists;
  if (system._register) system._register = (sessionId) => sessionId;
  return actor;
}
