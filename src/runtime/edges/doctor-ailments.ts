/** What is wrong with what the doctor has seen, and what to do about each. Pure: the same facts, the same problems. */
import type { Subjects } from "../subjects.ts";
import type { Ailment, BrokerReport, DaemonReport, Diagnosis, JetStreamReport, StreamReport } from "./diagnosis.ts";

export type Seen = Omit<Diagnosis, "healthy" | "problems">;

type Norms = {
  subjects: Subjects;
  /** How long a request may wait, in milliseconds. */
  staleAfterMs: number;
  /** How long beats were listened for, in milliseconds. */
  listenMs: number;
};

// Timers, deadlines and retention compare instants of different machines.
const MAX_CLOCK_OFFSET_MS = 1_000;
// Above this there is no time left to act.
const NEARLY_FULL = 0.8;

/** Everything that is wrong, the worst first. */
export function ailmentsOf(seen: Seen, norms: Norms): Ailment[] {
  return [
    ...missingParts(seen, norms),
    ...absentDaemons(seen, norms),
    ...providersDown(seen.daemons ?? []),
    ...fullStores(seen),
    ...impairedStreams(seen.streams ?? []),
    ...wrongClock(seen.broker),
    ...staleBacklog(seen, norms),
    ...parkedRuns(seen),
    ...deadLetters(seen),
  ];
}

function missingParts({ streams, door, prefix }: Seen, { subjects }: Norms): Ailment[] {
  if (!streams) return [];
  const names = Object.values(subjects.streams);
  const missing = names.filter((name) => !streams.some((stream) => stream.name === name));
  if (missing.length === names.length) {
    return [
      {
        code: "no_streams",
        message: `there are no streams for the prefix ${prefix}: no daemon was ever here`,
        advice: "start `troupe serve` on this NATS, or say with --prefix which one is meant",
      },
    ];
  }
  const advice =
    "start the broker on its own folder, or, where that is gone, restart every daemon: the first makes what is missing";
  return [
    ...missing.map((name) => ({ code: "stream_missing", message: `the stream ${name} is missing`, advice })),
    ...(door || missing.includes(subjects.streams.requests)
      ? []
      : [{ code: "door_missing", message: `the consumer ${subjects.doorConsumer} of requests is missing`, advice }]),
  ];
}

function absentDaemons({ daemons, runs }: Seen, { subjects, listenMs }: Norms): Ailment[] {
  if (!daemons || daemons.length > 0) return [];
  if (runs) {
    return [
      {
        code: "daemons_unheard",
        message: `a daemon answers, but none was heard on ${subjects.presence} within ${listenMs} ms`,
        advice: "daemons with a longer beatMs are heard with `--listen`; otherwise check what may be published there",
      },
    ];
  }
  return [
    {
      code: "no_daemon",
      message: "no daemon is there: none was heard, none answered",
      advice: "start `troupe serve`; requests and runs wait until then",
    },
  ];
}

function providersDown(daemons: readonly DaemonReport[]): Ailment[] {
  return daemons.flatMap(({ host, down = [], tripped = [] }) =>
    down.map(({ provider, reason }) => ({
      code: "provider_down",
      message: `the provider ${provider} is down for ${host}${
        tripped.length > 0 ? `, and ${tripped.join(", ")} wait for a provider` : ""
      }: ${reason}`,
      advice: "it is asked again by itself; give agents a second model with another provider to go on meanwhile",
    })),
  );
}

function fullStores({ jetstream, streams = [] }: Seen): Ailment[] {
  const advice = "raise the limit, or shorten --retention; when it is full, nothing is accepted any more";
  return [
    ...(jetstream ? fullAccount(jetstream, advice) : []),
    ...streams.flatMap(({ name, bytes, maxBytes }) => fullness(`the stream ${name}`, bytes, maxBytes, advice)),
  ];
}

function fullAccount({ storageBytes, maxStorageBytes, ...rest }: JetStreamReport, advice: string): Ailment[] {
  return [
    ...fullness("JetStream's storage", storageBytes, maxStorageBytes, advice),
    ...fullness("JetStream's memory", rest.memoryBytes, rest.maxMemoryBytes, advice),
    ...fullness("the account's number of streams", rest.streams, rest.maxStreams, advice),
    ...fullness("the account's number of consumers", rest.consumers, rest.maxConsumers, advice),
  ];
}

function fullness(what: string, used: number, limit: number | undefined, advice: string): Ailment[] {
  if (limit === undefined || used < limit * NEARLY_FULL) return [];
  return [{ code: "nearly_full", message: `${what} is at ${Math.floor((used / limit) * 100)} % of its limit`, advice }];
}

function impairedStreams(streams: readonly StreamReport[]): Ailment[] {
  return streams.flatMap(({ name, replicas, impaired = [], leader }) => [
    ...(replicas > 1 && leader === undefined
      ? [
          {
            code: "no_leader",
            message: `the stream ${name} has no leader: nothing can be stored in it`,
            advice: "bring back servers of the NATS cluster until more than half of its copies are there",
          },
        ]
      : []),
    ...impaired.map(({ server, offline, behind }) => ({
      code: offline ? "replica_offline" : "replica_behind",
      message: `the copy of ${name} on ${server} is ${offline ? "away" : `behind by ${behind}`}`,
      advice: offline ? `bring ${server} back` : "it should catch up by itself; if it does not, look at that server",
    })),
  ]);
}

function wrongClock(broker: BrokerReport | undefined): Ailment[] {
  const { clockOffsetMs: offset = 0, clockUncertaintyMs: uncertainty = 0 } = broker ?? {};
  if (Math.abs(offset) - uncertainty <= MAX_CLOCK_OFFSET_MS) return [];
  const side = offset > 0 ? "ahead of" : "behind";
  return [
    {
      code: "clock_offset",
      message: `the broker's clock is ${Math.abs(offset)} ms ${side} this machine's`,
      advice: "synchronise the clocks (NTP): timers, deadlines and retention compare instants of both",
    },
  ];
}

function staleBacklog({ backlog = [], daemons = [] }: Seen, { staleAfterMs }: Norms): Ailment[] {
  return backlog
    .filter(({ oldestAgeMs = 0 }) => oldestAgeMs > staleAfterMs)
    .map(({ workflow, requests, oldestAgeMs = 0 }) => {
      const waits = requests === 1 ? "1 request waits" : `${requests} requests wait`;
      const isOffered = daemons.some(({ workflows }) => workflows.some((offer) => offer.startsWith(`${workflow}@`)));
      const seconds = Math.round(oldestAgeMs / 1_000);
      return {
        code: "stale_backlog",
        message: `${waits} at the door for the workflow ${workflow}, the oldest for ${seconds} s`,
        advice: isOffered
          ? "daemons have no room: start more of them, or raise --max-runs; see what holds their runs up"
          : "no daemon that was heard has this workflow: start one that does",
      };
    });
}

function parkedRuns({ runs }: Seen): Ailment[] {
  const parked = runs?.parked ?? [];
  const [first, ...others] = parked;
  if (!first) return [];
  const more = others.length > 0 ? `, and ${others.length} more` : "";
  return [
    {
      code: "parked_runs",
      message: `${parked.length === 1 ? "a run is" : `${parked.length} runs are`} parked: ${first.runId}${more}`,
      advice:
        "`troupe runs get <run-id>` says why: start a daemon that has its definition, or decide with `troupe runs resume <run-id>` or `troupe runs fail <run-id>`",
    },
  ];
}

function deadLetters({ deadLetters: count = 0 }: Seen): Ailment[] {
  if (count === 0) return [];
  return [
    {
      code: "dead_letters",
      message: count === 1 ? "there is a dead letter" : `there are ${count} dead letters`,
      advice: "`troupe dead list` says why; mend that, then `troupe dead redrive <id>`, or `troupe dead drop <id>`",
    },
  ];
}
