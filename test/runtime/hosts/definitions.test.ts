import { describe, expect, it } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import { FORM, type PutRecord } from "../../../src/runtime/hosts/definition-record.ts";
import { holdDefinitions } from "../../../src/runtime/hosts/definitions.ts";
import { holdStoredAgents } from "../../../src/runtime/hosts/stored-agents.ts";
import { type StoredWorkflow, withChange } from "../../../src/runtime/hosts/stored-versions.ts";
import { defineWorkflow } from "../../../src/workflows/define-workflow.ts";

const configured = defineWorkflow({ name: "article", agents: ["writer"], version: "config" });

function put(number: number, agents: string[], changes: Partial<PutRecord> = {}): PutRecord {
  const { hash, version } = defineWorkflow({ name: "article", agents, version: `v${number}` });
  const source = { agents, version };
  return {
    v: 1,
    type: "put",
    workflow: "article",
    number,
    at: "2026-01-01T00:00:00Z",
    form: FORM,
    version,
    hash,
    source,
    agents: {},
    ...changes,
  };
}

function stored(...records: PutRecord[]): StoredWorkflow {
  return records.reduce<StoredWorkflow | undefined>(
    (before, record) => withChange(before, record, record.number * 10),
    undefined,
  ) as StoredWorkflow;
}

const removed = { v: 1, type: "delete", workflow: "article", number: 9, at: "2026-01-01T00:00:00Z" } as const;

describe("the definitions of a daemon", () => {
  it("begin runs with what was stored last, and go on with all there ever was", () => {
    const held = holdDefinitions([configured]);
    expect(held.current("article")).toBe(configured);
    const [one, two] = [put(1, ["a"]), put(2, ["a", "b"])];
    held.store(stored(one, two));
    expect(held.current("article")?.hash).toBe(two.hash);
    expect(held.pinned("article", one.hash)?.hash).toBe(one.hash);
    expect(held.pinned("article", configured.hash)).toBe(configured);
    expect(held.offers()).toEqual([`article@${two.hash}`]);
    expect(held.older().sort()).toEqual([`article@${configured.hash}`, `article@${one.hash}`].sort());
  });

  it("find a version by hash, number and label, of which the newest counts", () => {
    const held = holdDefinitions([configured]);
    const records = [put(1, ["a"]), put(2, ["b"], { version: "same" }), put(3, ["c"], { version: "same" })];
    held.store(stored(...records));
    const hashOf = (version: string) => held.find("article", version)?.hash;
    expect(hashOf("#2")).toBe(records[1]?.hash);
    expect(hashOf("same")).toBe(records[2]?.hash);
    expect(hashOf(records[0]?.hash ?? "")).toBe(records[0]?.hash);
    expect(held.find("article", "config")).toBe(configured);
    expect(held.find("article", "#7")).toBeUndefined();
  });

  it("begin nothing of a deleted workflow, of no version, unless the configuration has it", () => {
    const one = put(1, ["a"]);
    const gone = withChange(stored(one), removed, 90);
    const held = holdDefinitions([]);
    held.store(gone);
    expect(held.find("article", undefined)).toBeUndefined();
    expect(held.find("article", "#1")).toBeUndefined();
    expect(held.offers()).toEqual([]);
    expect(held.pinned("article", one.hash)?.hash).toBe(one.hash);
    expect(held.older()).toEqual([`article@${one.hash}`]);
    held.configure([configured]);
    expect(held.find("article", undefined)).toBe(configured);
  });

  it("begin nothing where the newest is not understood, and say why", () => {
    const held = holdDefinitions([configured]);
    const odd = put(2, ["a"], { source: { agents: ["a"], colour: "red" } });
    held.store(stored(put(1, ["b"]), odd));
    expect(held.current("article")).toBeUndefined();
    expect(held.trouble("article")).toContain("colour");
    expect(held.trouble("article", odd.hash)).toContain("colour");
    expect(held.pinned("article", odd.hash)).toBeUndefined();
    expect(held.older()).not.toContain(`article@${odd.hash}`);
    expect(held.trouble("article", "#1")).toBeUndefined();
  });

  it("are those of a configuration that was read again, with the others for the runs they have", () => {
    const held = holdDefinitions([configured]);
    const next = defineWorkflow({ name: "article", agents: ["writer", "editor"] });
    held.configure([next]);
    expect(held.current("article")).toBe(next);
    expect(held.pinned("article", configured.hash)).toBe(configured);
    expect(held.older()).toEqual([`article@${configured.hash}`]);
  });
});

describe("the agents that came with definitions", () => {
  const raw = (instructions: string) => ({ instructions, model: "any" });
  const means = { tools: new Map(), modelFor: () => undefined };
  const own = defineAgent({ name: "a", instructions: "Own.", model: "any" });

  it("go before those of the configuration while new runs need them, and after them when not", () => {
    const agents = holdStoredAgents(() => {});
    const workflow = stored(
      put(1, ["a", "old"], { agents: { a: raw("Stored."), old: raw("Old.") } }),
      put(2, ["a"], { agents: { a: raw("Newer.") } }),
    );
    agents.store(workflow);
    const words = () =>
      Object.fromEntries(agents.among([own], means).map(({ name, instructions }) => [name, instructions]));
    expect(words()).toEqual({ a: "Newer.", old: "Old." });
    agents.store(withChange(workflow, removed, 90));
    expect(words()).toEqual({ a: "Own.", old: "Old." });
  });

  it("are the same agents while their words are the same", () => {
    const agents = holdStoredAgents(() => {});
    const one = put(1, ["a"], { agents: { a: raw("Same.") } });
    agents.store(stored(one));
    const [before] = agents.among([], means);
    agents.store(stored(one, put(2, ["a", "a"], { agents: { a: raw("Same.") } })));
    expect(agents.among([], means)[0]).toBe(before);
  });

  it("are left to others where this daemon has not the tool or the provider, and that is said once", () => {
    const said: string[] = [];
    const agents = holdStoredAgents((name, reason) => said.push(`${name}: ${reason}`));
    agents.store(stored(put(1, ["a"], { agents: { a: { ...raw("x"), tools: ["search"] } } })));
    expect(agents.among([], means)).toEqual([]);
    expect(agents.among([], means)).toEqual([]);
    expect(said).toEqual([expect.stringMatching(/^a: agents.a.tools\[0\]: expected the name of a tool/)]);
  });
});
