/** What the doctor found, for people. */
import type {
  Ailment,
  BacklogReport,
  BrokerReport,
  Diagnosis,
  DoorReport,
  JetStreamReport,
  RunsReport,
  StreamReport,
} from "../runtime/edges/diagnosis.ts";
import { bold, dim, green, red, yellow } from "./style.ts";
import { renderFacts, renderTable } from "./table.ts";
import { cut, harmless } from "./terminal-text.ts";
import { bytes, count, dateAndTime, duration, inline } from "./words.ts";

/** Columns of a list of names; the JSON has all of them. */
const WIDEST = 48;

/** Describes a diagnosis: what there is, then what is wrong. */
export function describeDiagnosis(diagnosis: Diagnosis): string {
  const { streams, daemons, problems, broker } = diagnosis;
  const sections = [
    facts(diagnosis),
    streams && streams.length > 0 ? describeStreams(streams) : "",
    describeBacklog(diagnosis.backlog ?? []),
    daemons && daemons.length > 0 ? describeDaemons(daemons) : "",
    problems.length > 0 ? describeProblems(problems) : broker ? green("Healthy: nothing is wrong.") : "",
  ];
  return sections.filter((section) => section !== "").join("\n\n");
}

function facts({ broker, jetstream, streams, door, daemons, runs, deadLetters }: Diagnosis): string {
  return renderFacts([
    ["broker", broker && describeBroker(broker)],
    ["clock", broker && describeClock(broker)],
    ["power loss", broker?.powerLoss],
    ["copies", streams && describeCopies(streams)],
    ["JetStream", jetstream && describeJetStream(jetstream)],
    ["daemons", daemons && (daemons.length > 0 ? String(daemons.length) : red("none"))],
    ["door", door && describeDoor(door)],
    ["runs", broker && (runs ? describeRuns(runs) : dim("unknown: no daemon answers"))],
    ["dead letters", deadLetters === undefined ? undefined : deadLetters > 0 ? yellow(String(deadLetters)) : "none"],
  ]);
}

function describeBroker({ url, version, embedded, cluster, roundTripMs }: BrokerReport): string {
  const where = embedded ? "embedded" : cluster ? `in the cluster ${inline(cluster)}` : "a single server";
  return `${bold(`nats-server ${inline(version)}`)} at ${inline(url)}, ${where}, answers in ${Math.max(1, Math.round(roundTripMs))} ms`;
}

function describeClock({ clockOffsetMs, clockUncertaintyMs = 0 }: BrokerReport): string | undefined {
  if (clockOffsetMs === undefined) return undefined;
  if (Math.abs(clockOffsetMs) <= clockUncertaintyMs) return "the same as this machine's";
  return `${duration(Math.abs(clockOffsetMs))} ${clockOffsetMs > 0 ? "ahead of" : "behind"} this machine's`;
}

function describeCopies(streams: readonly StreamReport[]): string | undefined {
  if (streams.length === 0) return undefined;
  const fewest = Math.min(...streams.map(({ replicas }) => replicas));
  if (fewest === 1) return "streams are on one server: what its disk loses is lost";
  return `streams are on ${fewest} servers: ${count(Math.floor((fewest - 1) / 2), "server")} of them may fail`;
}

function describeJetStream(report: JetStreamReport): string {
  const { storageBytes, maxStorageBytes, memoryBytes, maxMemoryBytes, streams, consumers } = report;
  const of = (limit: number | undefined) => (limit === undefined ? "" : ` of ${bytes(limit)}`);
  const memory = memoryBytes > 0 ? [`${bytes(memoryBytes)}${of(maxMemoryBytes)} in memory`] : [];
  const used = [`${bytes(storageBytes)}${of(maxStorageBytes)} on disk`, ...memory];
  return [...used, count(streams, "stream"), count(consumers, "consumer")].join(", ");
}

function describeDoor({ waiting, inHand, redelivered, pulls }: DoorReport): string {
  const again = redelivered > 0 ? `, ${redelivered} of them not for the first time` : "";
  return [
    waiting > 0 ? yellow(`${count(waiting, "request")} waiting`) : "nothing waits",
    `${inHand} in hand${again}`,
    `${count(pulls, "daemon")} asking for more`,
  ].join(", ");
}

function describeRuns({ pending, running, waiting, failing, cancelling, more, parked }: RunsReport): string {
  const unfinished = pending + running + waiting + failing + cancelling;
  if (unfinished === 0) return "none unfinished";
  const parts = Object.entries({ pending, running, waiting, failing, cancelling })
    .filter(([, number]) => number > 0)
    .map(([status, number]) => `${number} ${status}`);
  const stuck = parked.length > 0 ? [yellow(`${parked.length} parked`)] : [];
  return `${more ? "more than " : ""}${unfinished} unfinished: ${[...parts, ...stuck].join(", ")}`;
}

function describeStreams(streams: readonly StreamReport[]): string {
  const rows = streams.map(({ name, messages, bytes: size, maxBytes, replicas, leader, firstAt, lastAt }) => [
    name,
    String(messages),
    `${bytes(size)}${maxBytes === undefined ? "" : ` of ${bytes(maxBytes)}`}`,
    replicas > 1 ? `${replicas}${leader ? `, led by ${inline(leader)}` : ""}` : "1",
    firstAt === undefined ? "" : dateAndTime(firstAt),
    lastAt === undefined ? "" : dateAndTime(lastAt),
  ]);
  return renderTable(["STREAM", "MESSAGES", "SIZE", "COPIES", "FIRST", "LAST"], rows);
}

function describeBacklog(backlog: readonly BacklogReport[]): string {
  if (backlog.length === 0) return "";
  const rows = backlog.map(({ workflow, requests, oldestAgeMs }) => [
    inline(workflow),
    String(requests),
    oldestAgeMs === undefined ? "" : duration(oldestAgeMs),
  ]);
  return renderTable(["REQUESTS FOR", "WAITING", "OLDEST"], rows);
}

function describeDaemons(daemons: NonNullable<Diagnosis["daemons"]>): string {
  const rows = daemons.map(({ host, load, agents, workflows }) => [
    inline(host),
    String(load.runs),
    String(load.tasks),
    cut(inline(agents.join(", ")), WIDEST),
    cut(inline(workflows.map((offer) => offer.slice(0, offer.lastIndexOf("@"))).join(", ")), WIDEST),
  ]);
  return renderTable(["DAEMON", "RUNS", "TASKS", "AGENTS", "WORKFLOWS"], rows);
}

function describeProblems(problems: readonly Ailment[]): string {
  const told = problems.map(({ message, advice }) => `${red("✗")} ${harmless(message)}\n  ${dim(harmless(advice))}`);
  return `${bold(count(problems.length, "problem"))}\n${told.join("\n")}`;
}
