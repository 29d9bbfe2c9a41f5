/**
 * Every option of the daemon, once. Flags, variables, keys of the file, their checks and their documentation all come from
 * this table; nothing else names an option.
 */
import {
  choice,
  duration,
  integer,
  list,
  matching,
  type OptionKind,
  path,
  program,
  size,
  text,
  toggle,
} from "./option-kinds.ts";

type Words = {
  readonly doc: string;
  /** What the documentation says of the default, where the value itself says too little. */
  readonly defaultDoc?: string;
  /** A second variable, usual elsewhere; the one of Troupe goes first. */
  readonly alsoEnv?: string;
  /** Not to be shown in errors and logs. */
  readonly secret?: true;
};

type With<Value, Default> = Words & { readonly kind: OptionKind<Value>; readonly default: Default };

/** A row of the table; `default` is undefined where there is nothing to be assumed. */
export type Option<Value = unknown> = With<Value, Value | undefined>;

function option<Value>(
  kind: OptionKind<Value>,
  fallback: Value,
  doc: string,
  more: Partial<Words> = {},
): With<Value, Value> {
  return { kind, default: fallback, doc, ...more };
}

function optional<Value>(kind: OptionKind<Value>, doc: string, more: Partial<Words> = {}): With<Value, undefined> {
  return { kind, default: undefined, doc, ...more };
}

const NAMES = /^[A-Za-z0-9_-]{1,64}$/;
const URLS = /^((nats|tls|wss?):\/\/)?[^\s/,]+\/?$/;
/** nats-server takes these for `sync_interval`, the default of Go's durations among them. */
const SYNC = /^(always|\d+(ms|s|m|h))$/;
const MIB = 1_024 * 1_024;
const YEARS_10_MS = 10 * 365 * 86_400_000;

const OPTIONS = {
  // Where NATS is
  nats: optional(
    list("urls", { test: (word) => URLS.test(word), expected: "NATS URLs" }),
    "The NATS servers to connect to.",
    {
      alsoEnv: "NATS_URL",
      defaultDoc: "an embedded nats-server",
    },
  ),
  creds: optional(path, "A credentials file (JWT and seed) for NATS."),
  nkey: optional(path, "A file with an NKey seed for NATS."),
  token: optional(text(), "A token for NATS.", { secret: true }),
  user: optional(text("name"), "A user for NATS; goes with `password`."),
  password: optional(text(), "The password of `user`.", { secret: true }),
  tlsCa: optional(path, "A file with the certificate authority of the NATS servers."),
  tlsCert: optional(path, "A file with the client's certificate; goes with `tlsKey`."),
  tlsKey: optional(path, "A file with the key of `tlsCert`."),
  prefix: option(
    matching(NAMES, `a word of letters, digits, "-" or "_"`, "word"),
    "troupe",
    "The first token of every subject and the name of every stream; daemons with different prefixes do not see each other.",
  ),

  // The embedded nats-server, and what is kept
  data: option(path, ".troupe", "Where the embedded nats-server and the run index keep their files."),
  natsServer: optional(program, "The nats-server to start when no `nats` is given.", { defaultDoc: "found on PATH" }),
  syncInterval: option(
    matching(SYNC, "`always` or a duration such as 100ms or 2m", "interval"),
    "100ms",
    "How often the embedded nats-server syncs to disk, which bounds what a power loss takes; `always` costs throughput.",
  ),
  replicas: optional(integer(1, 5), "On how many servers of a NATS cluster every stream is kept.", {
    defaultDoc: "as the streams are; `1` for new ones",
  }),
  retentionMs: option(
    duration({ least: 60_000, most: YEARS_10_MS }),
    7 * 86_400_000,
    "How long finished runs are kept.",
    { defaultDoc: "`7d`" },
  ),
  retentionBytes: option(
    size({ least: MIB }),
    10_240 * MIB,
    "How much the journals of runs and their large values may take in the streams; beyond it the longest finished runs go before `retentionMs`.",
    { defaultDoc: "`10GiB`" },
  ),

  maxPayloadBytes: option(
    // Three of the largest, as an entry may have them, still fit into one text.
    integer(1_048_576, 134_217_728),
    67_108_864,
    "The most that a value may take as JSON which does not fit into a message: an input, an output, a conversation, a tool's result.",
    { defaultDoc: "`67108864`, which is 64 MiB" },
  ),

  // This daemon
  hostName: optional(
    matching(NAMES, `1 to 64 letters, digits, "-" or "_"`, "name"),
    "This daemon's name, the same over restarts and unlike any other's.",
    { defaultDoc: "made once and kept in `data`" },
  ),
  agents: optional(
    list("names", { test: (word) => NAMES.test(word), expected: "names of agents" }),
    "The agents this daemon hosts; the others are left to other daemons.",
    { defaultDoc: "all that are defined" },
  ),
  workflows: optional(
    path,
    "A folder whose files (YAML, JSON, TypeScript) define agents and workflows beside those of the configuration.",
    { defaultDoc: "none" },
  ),
  httpHost: option(text("address"), "127.0.0.1", "The address that health and metrics are served on."),
  httpPort: option(integer(0, 65_535), 7317, "The port that health and metrics are served on; 0 takes any free one."),
  logLevel: option(
    choice("trace", "debug", "info", "warn", "error", "fatal", "silent"),
    "info",
    "The least that is logged.",
  ),
  logFormat: option(choice("auto", "json", "pretty"), "auto", "How it is logged; `auto` is pretty on a terminal."),
  captureContent: option(toggle, false, "Whether traces hold what was said to and by models."),

  // Runs this daemon owns
  maxRuns: option(
    integer(1, 1_000_000),
    1_000,
    "How many runs of this daemon may be at work at once; further requests wait at the door, and runs whose time has come for room. Runs that only wait do not count.",
  ),
  maxJournalEvents: option(
    integer(100, 1_000_000),
    50_000,
    "How many events the journal of a run may hold, and how many entries that of a task; what needs more fails.",
  ),
  maxJournalBytes: option(
    size({ least: MIB, most: 1_024 * MIB }),
    64 * MIB,
    "How long the journal of a run or of a task may be; what needs more fails.",
    { defaultDoc: "`64MiB`" },
  ),
  ackWaitMs: option(
    duration({ least: 1_000 }),
    5_000,
    "How long a request may be in a daemon's hands before it goes to another.",
  ),
  beatMs: option(duration({ least: 10 }), 500, "How often a daemon says that it is alive."),
  suspectAfterMs: option(duration({ least: 20 }), 2_500, "How long a daemon may be silent before it is presumed dead."),
  lookAroundMs: option(
    duration({ least: 10 }),
    5_000,
    "How often a daemon looks for unfinished runs that nobody living owns.",
  ),
  drainTimeoutMs: option(duration(), 30_000, "How long tasks in flight may go on when the daemon is told to stop."),

  // Tasks
  taskAcceptTimeoutMs: option(
    duration({ least: 10 }),
    1_000,
    "How long the owner of a run waits for a worker to accept a task.",
  ),
  workingEveryMs: option(duration({ least: 10 }), 5_000, "How often a worker says that it is still at work on a task."),
  taskSilenceMs: option(
    duration({ least: 20 }),
    15_000,
    "How long a worker may say nothing before its task is sent again.",
  ),
  cancelGraceMs: option(
    duration({ least: 1 }),
    10_000,
    "How long cancelled tasks have to stop before the run ends without them.",
  ),
} as const;

export type OptionKey = keyof typeof OPTIONS;

/** The options of a daemon, complete. Durations are in milliseconds, paths are absolute. */
export type ResolvedOptions = {
  [Key in OptionKey]: (typeof OPTIONS)[Key] extends With<infer Value, infer Default> ? Value | Default : never;
};

export const OPTION_KEYS = Object.keys(OPTIONS) as OptionKey[];

/** The table's row of a key, without the type of its value. */
export function optionOf(key: OptionKey): Option {
  return OPTIONS[key] as Option;
}

/** Whether a word is an option's key. */
export function isOptionKey(word: string): word is OptionKey {
  return Object.hasOwn(OPTIONS, word);
}

/** An option's name on the command line: `suspectAfterMs` gives `--suspect-after`, which takes a duration with its unit. */
export function flagOf(key: OptionKey): string {
  return `--${key.replace(/Ms$/, "").replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** An option's variable: `suspectAfterMs` gives `TROUPE_SUSPECT_AFTER_MS`. */
export function variableOf(key: OptionKey): string {
  return `TROUPE_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}
