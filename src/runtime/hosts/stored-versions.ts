/** The stored versions of one workflow, oldest first, as this daemon understands them. */
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { type DefinitionRecord, type PutRecord, type Understood, understand } from "./definition-record.ts";

/** One version. Its definition is read when it is first asked for: most old ones never are. */
export type StoredVersion = {
  readonly record: PutRecord;
  readonly hash: string;
  /** Absent where this daemon does not understand it; then there is `trouble`. */
  readonly definition: WorkflowDefinition | undefined;
  readonly trouble: string | undefined;
};

export type StoredWorkflow = {
  readonly name: string;
  readonly versions: readonly StoredVersion[];
  /** The one new runs start with; undefined where the workflow was deleted. */
  readonly current: StoredVersion | undefined;
  /** Its last change: how many there were, and where that stands in the stream. */
  readonly last: { readonly number: number; readonly seq: number; readonly at: string };
  /** By number as in `#3`, hash or label; of several the newest. */
  find(version: string): StoredVersion | undefined;
  pinned(hash: string): WorkflowDefinition | undefined;
};

/** What is stored of a workflow after one more change, which stands at `seq`. */
export function withChange(before: StoredWorkflow | undefined, record: DefinitionRecord, seq: number): StoredWorkflow {
  const version = record.type === "put" ? openVersion(record) : undefined;
  const versions = [...(before?.versions ?? []), ...(version ? [version] : [])];
  const newest = versions.toReversed();
  const withHash = (hash: string) => newest.find((one) => one.hash === hash && one.definition);
  return {
    name: record.workflow,
    versions,
    current: version,
    last: { number: record.number, seq, at: record.at },
    find(wanted) {
      const number = /^#(\d+)$/.exec(wanted)?.[1];
      if (number !== undefined) return newest.find((one) => one.record.number === Number(number));
      return (
        withHash(wanted) ?? newest.find(({ record: { hash, version: label } }) => hash === wanted || label === wanted)
      );
    },
    pinned: (hash) => withHash(hash)?.definition,
  };
}

function openVersion(record: PutRecord): StoredVersion {
  let understood: Understood | undefined;
  const read = () => {
    understood ??= understand(record);
    return understood;
  };
  return {
    record,
    hash: record.hash,
    get definition() {
      return read().definition;
    },
    get trouble() {
      return read().trouble;
    },
  };
}
