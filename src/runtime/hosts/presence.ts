/**
 * Who is alive: every daemon beats on one subject, and every daemon listens.
 *
 * Invariants
 * P1  Presence is a hint about when to take over, never permission: only a journal append decides who owns a run.
 * P2  Times are measured on this process's monotonic clock from the arrival of beats; no clock is compared with another's.
 * P3  A process that was itself paused or blocked, or that does not hear the broker, has not listened: it gives everybody a new
 *     full time of grace before it calls anyone silent.
 * P4  Silence is looked for more often than anybody beats: who is dead is missed when the time is up, not a beat later, and
 *     nobody sooner.
 * P5  A host id with a new incarnation has restarted; its old incarnation is gone at once.
 */
import type { Logger } from "pino";
import type { Bus } from "../nats/connection.ts";
import { CONTACT_EVERY_MS } from "../nats/contact.ts";
import type { Msg } from "../nats/nats.ts";
import type { Subjects } from "../subjects.ts";
import type { ProviderDown } from "./provider-watch.ts";

/** What a daemon says about itself. The wire form of `troupe.presence`. */
export type Beat = {
  v: 1;
  /** Survives restarts. */
  host: string;
  /** New with every start. */
  incarnation: string;
  /** Agents whose mailboxes it serves. */
  agents: string[];
  /** Tools whose mailboxes it serves. */
  tools: string[];
  /** Workflows it takes requests for, each as `name@hash`. */
  workflows: string[];
  /** Other versions it can go on with, each as `name@hash`. */
  older?: string[];
  load: { runs: number; tasks: number };
  /** Since when it has watched the clock for schedules without a break, in milliseconds since the epoch; absent while it does not. */
  watch?: number;
  /** Schedules of its configuration. */
  schedules?: string[];
  /** Agents of it that wait for a provider of their models to be back. */
  tripped?: string[];
  /** Providers that are down for it, and what they last failed with. */
  down?: readonly ProviderDown[];
  /** It does not know yet which runs there are, and takes none over. */
  starting?: true;
  /** It takes nothing new and wants its runs taken over. */
  leaving?: true;
};

export type GoneReason = "silent" | "left" | "restarted";

export type PresenceOptions = {
  bus: Bus;
  subjects: Subjects;
  logger: Logger;
  beatMs: number;
  suspectAfterMs: number;
  /** What to say in the next beat. */
  self: () => Beat;
};

type GoneListener = (beat: Beat, reason: GoneReason, silentMs: number) => void;

export type Presence = {
  /** Living daemons, this one included unless it is leaving. */
  living(): Beat[];
  isLiving(incarnation: string): boolean;
  /** Whether a daemon that is gone now offered this workflow within the last half minute. */
  offeredLately(workflow: string): boolean;
  /** Called when a daemon is presumed gone; `silentMs` is how long ago it was last heard, in milliseconds. */
  onGone(listener: GoneListener): void;
  /** Called when a daemon appears or serves something new. */
  onChange(listener: () => void): void;
  /** Says at once where this daemon stands now. */
  announce(): void;
  /** Says at once that this daemon leaves, and stops beating. */
  leave(): Promise<void>;
  stop(): void;
};

// Longer than a daemon takes to restart: what it alone can run is not called unknown meanwhile.
const LATELY_MS = 30_000;
// P4: so many looks in the time after which somebody is missed.
const LOOKS = 25;

type Seen = { beat: Beat; at: number; offers: string };

/** Starts beating and listening; resolves once the first beat is out. */
export function startPresence(options: PresenceOptions): Presence {
  const { bus, subjects, logger, beatMs, suspectAfterMs, self } = options;
  const seen = new Map<string, Seen>();
  const goneListeners: GoneListener[] = [];
  const changeListeners: (() => void)[] = [];
  /** When a gone daemon last offered a workflow. */
  const lately = new Map<string, number>();
  const deafAfterMs = Math.max(beatMs + suspectAfterMs / 2, 2 * CONTACT_EVERY_MS);
  let leaving = false;
  let lastLook = performance.now();

  const subscription = bus.nc.subscribe(subjects.presence, { callback: (error, message) => error ?? hear(message) });
  const beating = setInterval(beat, beatMs);
  const looking = setInterval(look, Math.min(beatMs, suspectAfterMs / LOOKS));
  beat();

  return {
    living: () => [...(leaving ? [] : [self()]), ...[...seen.values()].map((entry) => entry.beat)],
    isLiving: (incarnation) => (!leaving && self().incarnation === incarnation) || seen.has(incarnation),
    offeredLately: (workflow) => performance.now() - (lately.get(workflow) ?? Number.NEGATIVE_INFINITY) < LATELY_MS,
    onGone: (listener) => void goneListeners.push(listener),
    onChange: (listener) => void changeListeners.push(listener),
    announce: beat,
    async leave() {
      leaving = true;
      stopTimers();
      beat();
      if (bus.connected()) await bus.nc.flush().catch(() => {});
    },
    stop() {
      stopTimers();
      subscription.unsubscribe();
    },
  };

  function beat() {
    // While disconnected a beat would be buffered and come as news later.
    if (!bus.connected()) return;
    bus.nc.publish(subjects.presence, JSON.stringify({ ...self(), ...(leaving && { leaving: true }) }));
  }

  function stopTimers() {
    clearInterval(beating);
    clearInterval(looking);
  }

  // P4
  function look() {
    const now = performance.now();
    // P3: a blocked loop, a stopped process, a connection that was away or a broker that stands still: nobody was heard.
    const deaf = now - lastLook > deafAfterMs || now - bus.heardAt() > deafAfterMs || !bus.connected();
    lastLook = now;
    if (deaf) for (const entry of seen.values()) entry.at = now;
    for (const entry of seen.values()) {
      if (now - entry.at > suspectAfterMs) lose(entry.beat, "silent");
    }
  }

  function hear(message: Msg) {
    const heard = parse(message);
    if (!heard || heard.incarnation === self().incarnation) return;
    if (heard.leaving) {
      if (seen.has(heard.incarnation)) lose(heard, "left");
      return;
    }
    for (const { beat: known } of [...seen.values()]) {
      // P5
      if (known.host === heard.host && known.incarnation !== heard.incarnation) lose(known, "restarted");
    }
    const { agents, tools, workflows, older } = heard;
    const offers = [agents, tools, workflows, older].map((names) => names?.join()).join(" ");
    const before = seen.get(heard.incarnation);
    seen.set(heard.incarnation, { beat: heard, at: performance.now(), offers });
    if (before?.offers === offers) return;
    if (!before) {
      logger.info({ daemon: heard.host, incarnation: heard.incarnation, agents: heard.agents }, "daemon appeared");
      // It should not have to wait a whole beat to learn of this one.
      beat();
    }
    for (const listener of changeListeners) listener();
  }

  function lose(lost: Beat, reason: GoneReason) {
    const known = seen.get(lost.incarnation);
    if (!known) return;
    seen.delete(lost.incarnation);
    for (const offer of known.beat.workflows) lately.set(offer.slice(0, offer.lastIndexOf("@")), performance.now());
    const who = { daemon: lost.host, incarnation: lost.incarnation, reason };
    if (reason === "silent") logger.warn(who, "daemon gone");
    else logger.info(who, "daemon gone");
    const silentMs = performance.now() - known.at;
    for (const listener of goneListeners) listener(lost, reason, silentMs);
  }

  function parse(message: Msg): Beat | undefined {
    try {
      const heard = message.json<Beat>();
      const { agents, tools, workflows, older = [] } = heard;
      const names = [heard.host, heard.incarnation, ...agents, ...tools, ...workflows, ...older];
      if (heard.v === 1 && names.every((name) => typeof name === "string")) return heard;
    } catch {
      // Falls through to the same words.
    }
    logger.debug({ subject: message.subject }, "not a beat");
    return undefined;
  }
}

/** Whether a daemon can go on with runs of a version, which is named as in beats. */
export function canGoOnWith({ workflows, older }: Beat, offer: string): boolean {
  return workflows.includes(offer) || older?.includes(offer) === true;
}

/**
 * The living daemon that should take a run over: rendezvous hashing, so that all agree without talking and a run moves only
 * when its own candidate goes.
 */
export function chooseOwner(runId: string, candidates: readonly Beat[]): Beat | undefined {
  let best: Beat | undefined;
  let bestScore = -1;
  for (const candidate of candidates) {
    const score = hash32(`${runId}\n${candidate.host}`);
    if (score > bestScore || (score === bestScore && candidate.host > (best?.host ?? ""))) {
      best = candidate;
      bestScore = score;
    }
  }
  return best;
}

/** FNV-1a with a final mix, so that keys with a common start spread over all hosts. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
