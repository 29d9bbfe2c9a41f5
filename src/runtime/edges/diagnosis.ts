/** What `troupe doctor` finds. What could not be looked at is missing, and a problem says why. */

/** Something that is not as it should be, and what to do about it. */
export type Ailment = {
  /** Stable, machine readable, lower case with underscores. */
  code: string;
  message: string;
  /** What to do. */
  advice: string;
};

export type BrokerReport = {
  url: string;
  /** As in `2.9.10`. */
  version: string;
  name: string;
  /** The name of its NATS cluster; absent where it is alone. */
  cluster?: string;
  /** Whether it is the embedded server of the data folder given. */
  embedded: boolean;
  /** One message there and back, in milliseconds. */
  roundTripMs: number;
  /** The longest message, in bytes. */
  maxPayload: number;
  /** What a loss of power can take, in words. */
  powerLoss: string;
  /** How far its clock is ahead of this machine's, in milliseconds. */
  clockOffsetMs?: number;
  /** By how much that may be off, in milliseconds. */
  clockUncertaintyMs?: number;
};

/** What the account uses of JetStream; a limit that is missing is none that a client can see. */
export type JetStreamReport = {
  storageBytes: number;
  maxStorageBytes?: number;
  memoryBytes: number;
  maxMemoryBytes?: number;
  streams: number;
  maxStreams?: number;
  consumers: number;
  maxConsumers?: number;
  apiErrors: number;
};

export type StreamReport = {
  name: string;
  messages: number;
  bytes: number;
  /** A limit that somebody set. */
  maxBytes?: number;
  /** On how many servers it is kept. */
  replicas: number;
  leader?: string;
  /** Servers of its copies that are away or behind. */
  impaired?: { server: string; offline: boolean; behind: number }[];
  /** The instants of the first and the last message. */
  firstAt?: string;
  lastAt?: string;
};

/** The consumer that all daemons take requests from. */
export type DoorReport = {
  /** Requests nobody has taken yet. */
  waiting: number;
  /** Requests in the hands of daemons that are not runs yet. */
  inHand: number;
  /** Those of them that were in somebody's hands before. */
  redelivered: number;
  /** How many daemons ask for requests now. */
  pulls: number;
};

/** Requests of one workflow that are not runs yet. */
export type BacklogReport = { workflow: string; requests: number; oldestAt?: string; oldestAgeMs?: number };

export type DaemonReport = {
  host: string;
  incarnation: string;
  agents: string[];
  workflows: string[];
  load: { runs: number; tasks: number };
  /** Agents of it that wait for a provider of their models to be back. */
  tripped?: string[];
  /** Providers that are down for it, and what they last failed with. */
  down?: readonly { provider: string; reason: string }[];
};

export type RunsReport = {
  pending: number;
  running: number;
  waiting: number;
  failing: number;
  cancelling: number;
  /** Whether there are more than were counted. */
  more: boolean;
  parked: { runId: string; workflow: string; reason: string }[];
};

export type Diagnosis = {
  /** Whether there are no problems. */
  healthy: boolean;
  at: string;
  /** Absent where the broker could not be reached, as is all that follows. */
  prefix?: string;
  broker?: BrokerReport;
  jetstream?: JetStreamReport;
  streams?: StreamReport[];
  door?: DoorReport;
  backlog?: BacklogReport[];
  daemons?: DaemonReport[];
  runs?: RunsReport;
  deadLetters?: number;
  problems: Ailment[];
};
