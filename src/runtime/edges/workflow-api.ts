/**
 * What the API answers about workflows: those of the configuration and those that are stored, which are put, versioned and
 * deleted here.
 *
 * Invariants
 * W1  What is put is accepted whole or not at all: everything is checked first, by this daemon's tools and providers.
 * W2  The same content again is the version that is there: asking twice is asking once.
 * W3  A change is stored behind the one it was decided on; when another one was quicker, whoever asked is told.
 */
import type { Agent } from "../../actors/agent.ts";
import { NotFoundError, type Problem } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { type DefinitionFile, writeDefinitions } from "../../workflows/export-definition.ts";
import { agentsNamedIn } from "../../workflows/written-workflow.ts";
import type { PutRecord } from "../hosts/definition-record.ts";
import { type HeldDefinitions, offerOf } from "../hosts/definitions.ts";
import type { Beat } from "../hosts/presence.ts";
import type { AgentMeans } from "../hosts/stored-agents.ts";
import type { StoredDefinitions } from "../hosts/stored-definitions.ts";
import type { StoredVersion, StoredWorkflow } from "../hosts/stored-versions.ts";
import { ConflictError } from "./api-errors.ts";
import type { ApiRequest } from "./api-requests.ts";
import { type DraftRecord, isSame, readPut } from "./read-put.ts";

/** A workflow as `workflows.list` shows it. */
export type WorkflowListing = {
  name: string;
  kind: WorkflowDefinition["kind"];
  version: string;
  hash: string;
  description?: string;
  agents: string[];
  /** Whether it was put, or stands in the configuration of the daemon that answers. */
  from: "store" | "config";
  /** The running number of its version, where it was put. */
  number?: number;
};

/** A version of a workflow, as `workflows.versions` shows it. */
export type WorkflowVersion = {
  version: string;
  hash: string;
  from: "store" | "config";
  /** Whether new runs begin with it. */
  current: boolean;
  number?: number;
  at?: string;
  by?: string;
  /** Why the daemon that answers does not understand it. */
  trouble?: string;
};

/** What a workflow was written as. */
export type WorkflowSource = {
  workflow: string;
  version: string;
  hash: string;
  number?: number;
  /** The workflow and the agents it names, as far as a file can hold them. */
  file: DefinitionFile;
  /** What no file can hold. */
  problems?: readonly Problem[];
};

/** What became of a workflow that was put. */
export type WorkflowPut = {
  workflow: string;
  version: string;
  number: number;
  hash: string;
  /** False where the same was there already. */
  changed: boolean;
  /** The agents that are kept with it. */
  agents: string[];
  /** Living daemons, by host, that have not said that they run it: they do not understand it, or are slow. */
  without?: string[];
};

export type WorkflowApi = {
  list(): { workflows: WorkflowListing[] };
  get(request: ApiRequest<"workflows.get">): Promise<WorkflowDefinition>;
  source(request: ApiRequest<"workflows.source">): Promise<WorkflowSource>;
  versions(request: ApiRequest<"workflows.versions">): Promise<{ versions: WorkflowVersion[] }>;
  put(request: ApiRequest<"workflows.put">): Promise<{ workflows: WorkflowPut[]; unused?: string[] }>;
  delete(request: ApiRequest<"workflows.delete">): Promise<{ workflow: string; number: number }>;
};

export type WorkflowApiParts = {
  definitions: HeldDefinitions;
  stored: StoredDefinitions;
  /** What this daemon gives agents. */
  means(): AgentMeans;
  /** The agents this daemon knows. */
  agents(): readonly Agent[];
  living(): readonly Beat[];
};

// A beat that tells of something new comes at once; who has not said so by then may never.
const KNOWN_EVERYWHERE_MS = 1_000;
const LOOK_EVERY_MS = 10;

/** Makes the handlers of `workflows.*`. */
export function openWorkflowApi({ definitions, stored, means, agents, living }: WorkflowApiParts): WorkflowApi {
  return {
    list: () => ({ workflows: definitions.all().map(listingOf) }),

    async get({ workflow, version }) {
      await refreshUnknown(workflow, version);
      const found = definitions.find(workflow, version);
      if (!found) throw unknown(workflow, version);
      return found;
    },

    async source({ workflow, version }) {
      await refreshUnknown(workflow, version);
      const kept = version === undefined ? definitions.stored(workflow)?.current : findVersion(workflow, version);
      if (kept) return storedSource(workflow, kept);
      const found = definitions.find(workflow, version);
      if (!found) throw unknown(workflow, version);
      const problems: Problem[] = [];
      const file = writeDefinitions([found], agents(), problems);
      const { version: label, hash } = found;
      return { workflow, version: label, hash, file, ...(problems.length > 0 && { problems }) };
    },

    async versions({ workflow }) {
      await stored.refresh(workflow);
      const known = definitions.stored(workflow);
      const current = definitions.current(workflow);
      const rows = (known?.versions ?? []).toReversed().map((version) => rowOf(version, known?.current === version));
      if (current && !known?.current) {
        rows.unshift({ version: current.version, hash: current.hash, from: "config", current: true });
      }
      if (rows.length === 0) throw unknown(workflow, undefined);
      return { versions: rows };
    },

    async put({ agents: writtenAgents = {}, workflows: writtenWorkflows, expected, by }) {
      const names = Object.keys(writtenWorkflows);
      await Promise.all(names.map((name) => stored.refresh(name)));
      // W1
      const records = readPut(
        { agents: writtenAgents, workflows: writtenWorkflows, expected, by },
        { ...means(), agents: agents(), served: living().flatMap((beat) => beat.agents) },
      );
      // None of several may turn out to be late after others are stored, as far as can be told.
      const decided = records.map((record) => ({ record, known: checked(record, expected?.[record.workflow]) }));
      const put: WorkflowPut[] = [];
      for (const { record, known } of decided) put.push(await store(record, known));
      const used = new Set(put.flatMap((one) => one.agents));
      const unused = Object.keys(writtenAgents).filter((name) => !used.has(name));
      await knownEverywhere(put);
      return { workflows: put.map(withAbsent), ...(unused.length > 0 && { unused }) };
    },

    async delete({ workflow, expected, by }) {
      await stored.refresh(workflow);
      const known = definitions.stored(workflow);
      if (!known) {
        if (!definitions.isConfigured(workflow)) throw unknown(workflow, undefined);
        const message = `workflow ${workflow} was not put: it stands in the configuration of daemons, which has to be changed`;
        throw new ConflictError("not_stored", message);
      }
      // W2
      if (!known.current) return { workflow, number: known.last.number };
      if (expected !== undefined && expected !== known.last.number) throw conflict(workflow, known, expected);
      const number = known.last.number + 1;
      const at = new Date().toISOString();
      const record = { v: 1, type: "delete", workflow, number, at, ...(by !== undefined && { by }) } as const;
      // W3
      if (!(await stored.append(record, known.last.seq))) throw await lost(workflow, known.last.number);
      return { workflow, number };
    },
  };

  function findVersion(workflow: string, version: string): StoredVersion | undefined {
    return definitions.stored(workflow)?.find(version);
  }

  /** What was put through another daemon a moment ago may not have come here yet. */
  async function refreshUnknown(workflow: string, version: string | undefined): Promise<void> {
    if (!definitions.find(workflow, version)) await stored.refresh(workflow);
  }

  function listingOf({ name, kind, version, hash, description }: WorkflowDefinition): WorkflowListing {
    const kept = definitions.stored(name)?.current;
    const definition = definitions.current(name);
    const written = definition && writeDefinitions([definition], [], []).workflows[name];
    return {
      name,
      kind,
      version,
      hash,
      ...(description !== undefined && { description }),
      agents: written ? agentsNamedIn(written) : [],
      ...(kept ? { from: "store", number: kept.record.number } : { from: "config" }),
    };
  }

  function storedSource(workflow: string, { record, hash }: StoredVersion): WorkflowSource {
    const { version, number, source } = record;
    const local = new Map(agents().map((agent) => [agent.name, agent]));
    const missing = agentsNamedIn(source).flatMap((name) => (record.agents[name] ? [] : (local.get(name) ?? [])));
    const problems: Problem[] = [];
    const definition = definitions.find(workflow, hash);
    const others = definition ? writeDefinitions([definition], missing, problems).agents : {};
    const file = { agents: { ...others, ...record.agents }, workflows: { [workflow]: source } };
    return { workflow, version, hash, number, file, ...(problems.length > 0 && { problems }) };
  }

  /** W3: what a record is decided on, if that is what was expected. */
  function checked(record: DraftRecord, expected: number | undefined): StoredWorkflow | undefined {
    const known = definitions.stored(record.workflow);
    const isExpected = expected === undefined || expected === (known?.last.number ?? 0);
    if (isExpected || isSame(known?.current?.record, record)) return known;
    throw conflict(record.workflow, known, expected);
  }

  async function store(draft: DraftRecord, known: StoredWorkflow | undefined): Promise<WorkflowPut> {
    const { workflow, version, hash } = draft;
    const kept = known?.current?.record;
    const told = { workflow, version, hash, agents: Object.keys(draft.agents) };
    // W2
    if (kept && isSame(kept, draft)) return { ...told, number: kept.number, changed: false };
    const number = (known?.last.number ?? 0) + 1;
    const record: PutRecord = { ...draft, number, at: new Date().toISOString() };
    if (await stored.append(record, known?.last.seq ?? 0)) return { ...told, number, changed: true };
    // W3
    throw await lost(workflow, number - 1);
  }

  async function lost(workflow: string, expected: number): Promise<ConflictError> {
    await stored.refresh(workflow);
    return conflict(workflow, definitions.stored(workflow), expected);
  }

  async function knownEverywhere(put: readonly WorkflowPut[]): Promise<void> {
    const giveUpAt = performance.now() + KNOWN_EVERYWHERE_MS;
    while (performance.now() < giveUpAt && put.some((one) => absent(one).length > 0)) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  }

  function absent({ workflow, hash }: WorkflowPut): string[] {
    const offer = offerOf(workflow, hash);
    // One that is starting has not read what is stored yet.
    const started = living().filter((beat) => !beat.starting);
    return started.flatMap((beat) => (beat.workflows.includes(offer) ? [] : [beat.host]));
  }

  function withAbsent(put: WorkflowPut): WorkflowPut {
    const without = absent(put);
    return without.length > 0 ? { ...put, without } : put;
  }

  function unknown(workflow: string, version: string | undefined): NotFoundError {
    const trouble = definitions.trouble(workflow, version);
    if (trouble !== undefined) {
      return new NotFoundError(`workflow ${workflow} is not understood by this daemon: ${trouble}`, "unknown_workflow");
    }
    if (version !== undefined && definitions.current(workflow)) {
      return new NotFoundError(`workflow ${workflow} has no version ${JSON.stringify(version)}`, "unknown_version");
    }
    return new NotFoundError(`no workflow ${JSON.stringify(workflow)} on this daemon`, "unknown_workflow");
  }
}

function rowOf({ record, hash, trouble }: StoredVersion, current: boolean): WorkflowVersion {
  const { version, number, at, by } = record;
  const who = by === undefined ? {} : { by };
  return { version, hash, from: "store", current, number, at, ...who, ...(trouble !== undefined && { trouble }) };
}

function conflict(workflow: string, known: StoredWorkflow | undefined, expected: number): ConflictError {
  const number = known?.last.number ?? 0;
  const stands = number === 0 ? "nothing is stored of it" : `its last change is number ${number}`;
  return new ConflictError("version_conflict", `workflow ${workflow}: expected change ${expected}, but ${stands}`, {
    workflow,
    number,
  });
}
