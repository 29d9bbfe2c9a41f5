import { readFile } from "node:fs/promises";
import { beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import type { JsonSchema } from "../../src/actors/model.ts";
import { validateOutput } from "../../src/actors/schemas.ts";
import { apiRequests } from "../../src/runtime/edges/api-requests.ts";
import { subjectsFor } from "../../src/runtime/subjects.ts";
import type { RunEventType } from "../../src/workflows/run-events.ts";
import { type RecordedMessage, recordMessages } from "./recorded-messages.ts";

type Ref = { $ref: string };
type Channel = { address: string | null; messages: { [name: string]: Ref } };
type Document = {
  asyncapi: string;
  channels: { [name: string]: Channel };
  operations: { [name: string]: { channel: Ref } };
  components: { messages: { [name: string]: { payload: Ref } }; schemas: { [name: string]: JsonSchema } };
};

/** Every type there is; the compiler knows when one is missing. */
const EVENT_TYPES: { [Type in RunEventType]: true } = {
  "run.accepted": true,
  "run.claimed": true,
  "run.parked": true,
  "run.failing": true,
  "run.cancelling": true,
  "run.exceeded": true,
  "run.completed": true,
  "run.failed": true,
  "run.cancelled": true,
  "step.started": true,
  "step.completed": true,
  "step.failed": true,
  "step.retrying": true,
  "step.skipped": true,
  "step.cancelled": true,
  "step.reused": true,
  "compensation.started": true,
  "compensation.completed": true,
  "compensation.retrying": true,
  "compensation.failed": true,
  "compensation.abandoned": true,
  "task.sent": true,
  "task.waiting": true,
  "task.accepted": true,
  "task.settled": true,
  "agent.handoff": true,
  "timer.set": true,
  "timer.fired": true,
  "timer.cleared": true,
  "approval.requested": true,
  "approval.resolved": true,
  "wait.begun": true,
  "signal.refused": true,
  "signal.received": true,
};

const source = await readFile(new URL("../../docs/asyncapi.yaml", import.meta.url), "utf8");
const text = await readFile(new URL("../../docs/protocol.md", import.meta.url), "utf8");
const document = parse(source) as Document;

describe("docs/asyncapi.yaml", () => {
  it("is AsyncAPI 3.0 in which every reference leads somewhere", () => {
    expect(document.asyncapi).toBe("3.0.0");
    const references = [...source.matchAll(/\$ref: "#\/([^"]+)"/g)].map(([, path]) => path as string);
    expect(references.length).toBeGreaterThan(100);
    const lost = references.filter((path) => lookUp(path) === undefined);
    expect(lost).toEqual([]);
  });

  it("has a channel for every subject the runtime uses", () => {
    const uncovered = concreteSubjects().filter((subject) => !channelOf(subject));
    expect(uncovered).toEqual([]);
  });

  it("has an operation for every channel that is not another one's reply", () => {
    const used = new Set(JSON.stringify(document.operations).match(/#\/channels\/\w+/g));
    const idle = Object.keys(document.channels).filter((name) => !used.has(`#/channels/${name}`));
    expect(idle).toEqual([]);
  });

  it("knows every type of journal event", () => {
    const types = [...source.matchAll(/type: \{ const: ([a-z]+\.[a-z]+) \}/g)].map(([, type]) => type);
    expect(types.sort()).toEqual(Object.keys(EVENT_TYPES).sort());
  });

  describe("beside a running daemon", () => {
    let recorded: RecordedMessage[];
    beforeAll(async () => {
      recorded = await recordMessages();
    }, 60_000);

    it("has a schema that every message fits", () => {
      expect(recorded.length).toBeGreaterThan(100);
      expect([...new Set(recorded.flatMap(problemsOf))]).toEqual([]);
    });

    it("describes no message that a daemon never sends", () => {
      const seen = new Set(recorded.flatMap((message) => fitting(message)));
      const unseen = Object.keys(document.components.messages).filter((name) => !seen.has(name));
      expect(unseen).toEqual([]);
    });

    it("saw every kind of live event, and a provider that is down", () => {
      const { TurnEvent, LogEvent } = document.components.schemas;
      const unseen = [TurnEvent, LogEvent]
        .flatMap(typesOf)
        .filter((type) => !recorded.some(({ on }) => "subject" in on && on.subject.endsWith(`.${type}`)));
      // None of the models there begins an answer anew.
      expect(unseen).toEqual(["model.restarted"]);
      const beats = recorded.filter(({ on }) => "subject" in on && on.subject === "troupe.presence");
      expect(beats.map(({ body }) => body)).toContainEqual(
        expect.objectContaining({ tripped: ["stranded"], down: [{ provider: "away", reason: "nobody is there" }] }),
      );
    });

    it("refuses a message with one field more, also deep inside", () => {
      const beat = find((subject) => subject === "troupe.presence") as { load: object };
      const [accepted, ...others] = find((subject) => subject.startsWith("troupe.runs.")) as { data: object }[];
      const surplus = [
        { on: { subject: "troupe.presence" }, body: { ...beat, load: { ...beat.load, surplus: 1 } } },
        {
          on: { subject: "troupe.runs.any" },
          body: [{ ...accepted, data: { ...accepted?.data, surplus: 1 } }, ...others],
        },
      ];
      expect(surplus.filter((message) => problemsOf(message).length === 0)).toEqual([]);
    });

    function find(wanted: (subject: string) => boolean): unknown {
      return recorded.find(({ on }) => "subject" in on && wanted(on.subject))?.body;
    }
  });
});

describe("docs/protocol.md", () => {
  it("names every subject, endpoint and type of event", () => {
    const subjects = Object.values(document.channels).flatMap(({ address }) =>
      address
        ? [address.replace("{kind}.{name}", "requests.{workflow}").replaceAll("{", "<").replaceAll("}", ">")]
        : [],
    );
    const missing = [
      ...subjects.filter((subject) => !subject.includes(".api.")),
      ...Object.keys(apiRequests),
      ...Object.keys(EVENT_TYPES),
    ].filter((name) => !text.includes(`\`${name}\``));
    expect(missing).toEqual([]);
  });
});

function lookUp(path: string): unknown {
  return path.split("/").reduce<unknown>((at, key) => (at as { [key: string]: unknown } | undefined)?.[key], document);
}

/** Every subject of `subjects.ts` with something in its places; patterns only stand for those. */
function concreteSubjects(): string[] {
  const subjects = subjectsFor("troupe");
  const {
    prefix: _prefix,
    service: _service,
    streams: _streams,
    buckets: _buckets,
    doorConsumer: _door,
    workers: _workers,
    api,
    ...named
  } = subjects;
  const all = Object.values(named).map((value) => {
    if (typeof value === "string") return value;
    return (value as (...tokens: string[]) => string)(...["one", "two", "three"].slice(0, value.length));
  });
  const endpoints = Object.keys(apiRequests).map((endpoint) => `${api}.${endpoint}`);
  return [...all, ...endpoints].filter((subject) => !/[*>]/.test(subject));
}

function channelOf(subject: string): Channel | undefined {
  return Object.values(document.channels).find(({ address }) => address && patternOf(address).test(subject));
}

/** Parameters are single tokens; an event's type has two. */
function patternOf(address: string): RegExp {
  const escaped = address.replaceAll(".", "\\.");
  return new RegExp(`^${escaped.replaceAll("{type}", ".+").replaceAll(/\{\w+\}/g, "[^.]+")}$`);
}

function messagesOn({ on }: RecordedMessage): string[] {
  const channel = "channel" in on ? document.channels[on.channel] : channelOf(on.subject);
  if (!channel) throw new Error(`expected a channel for ${JSON.stringify(on)}, got none`);
  return Object.values(channel.messages).map(({ $ref }) => $ref.slice($ref.lastIndexOf("/") + 1));
}

function check(name: string, body: unknown): string[] {
  const checked = validateOutput(schemaOf(name), body);
  return checked.ok ? [] : checked.problems;
}

function fitting(message: RecordedMessage): string[] {
  return messagesOn(message).filter((name) => check(name, message.body).length === 0);
}

function problemsOf(message: RecordedMessage): string[] {
  if (fitting(message).length > 0) return [];
  const problems = messagesOn(message).flatMap((name) =>
    check(name, message.body).map((problem) => `${name}: ${problem}`),
  );
  return [`${JSON.stringify(message)}\n  ${problems.join("\n  ")}`];
}

const schemas = new Map<string, JsonSchema>();

/** The payload's schema as one that stands by itself. */
function schemaOf(message: string): JsonSchema {
  let schema = schemas.get(message);
  if (!schema) {
    const { payload } = document.components.messages[message] as { payload: Ref };
    const whole = { allOf: [payload], $defs: document.components.schemas };
    schema = JSON.parse(JSON.stringify(whole).replaceAll("#/components/schemas/", "#/$defs/")) as JsonSchema;
    schemas.set(message, schema);
  }
  return schema;
}

function typesOf(schema: JsonSchema | undefined): string[] {
  const properties = schema?.properties as { type: { enum: string[] } } | undefined;
  return properties?.type.enum ?? [];
}
