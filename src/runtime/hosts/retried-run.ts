/**
 * The run that another one tries again: found out from its journal what is taken over of it. Whoever asks for the new run names
 * the one before; what that one has done is read by the daemon that accepts the new one, so nobody else can say what it was.
 */
import { NotFoundError } from "../../errors.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { CannotRetryError, type ReusedStep, reusedSteps } from "../../workflows/reused-steps.ts";
import type { RetryOf, RunEvent, RunRequest } from "../../workflows/run-events.ts";
import { LARGE } from "../nats/payloads.ts";
import type { RunHostParts } from "./active-run.ts";
import type { Definitions } from "./definitions.ts";
import { boundTo, hasEnded, type Journal, readJournal } from "./read-run.ts";

export type RetriedRun = {
  definition: WorkflowDefinition;
  /** What the new run is asked for. */
  request: RunRequest;
  reused: ReusedStep[];
};

type RetryParts = { host: RunHostParts; definitions: Definitions };

/**
 * Reads the run that `request` tries again.
 *
 * @throws NotFoundError `unknown_run`; CannotRetryError `cannot_retry`; what reading throws.
 */
export async function readRetriedRun(
  { host, definitions }: RetryParts,
  workflow: string,
  { request, retryOf }: { request: RunRequest; retryOf: RetryOf },
): Promise<RetriedRun> {
  const { runId, from } = retryOf;
  const journal = await readJournal(host, runId);
  if (!journal) throw new NotFoundError(`retryOf: no run ${JSON.stringify(runId)}`, "unknown_run");
  const hash = checkRetryable(journal, from);
  if (journal.accepted.data.workflow !== workflow) {
    const expected = journal.accepted.data.workflow;
    throw new CannotRetryError(`run ${runId}: expected a request for workflow ${expected}, got ${workflow}`);
  }
  const definition = definitions.pinned(workflow, hash);
  if (!definition) throw noDefinition(runId, workflow, hash);
  const events: RunEvent[] = [];
  for (const event of journal.events) events.push(await host.payloads.resolve(event, { fields: LARGE.event }));
  const [accepted] = events;
  const before: Partial<RunRequest> = accepted?.type === "run.accepted" ? accepted.data : {};
  const { input, sessionId, userId, metadata, timeoutMs } = before;
  return {
    definition,
    request: {
      ...(sessionId !== undefined && { sessionId }),
      ...(userId !== undefined && { userId }),
      ...(metadata !== undefined && { metadata }),
      ...(timeoutMs !== undefined && { timeoutMs }),
      ...request,
      input,
      retryOf,
    },
    reused: reusedSteps(definition, events, from),
  };
}

/** What a request for the new run says of the one before, and of which workflow it is. */
export type PreparedRetry = { workflow: string; retryOf: RetryOf };

/**
 * Finds out whether a run can be tried again, before anything is asked for; `isOffered` knows the definitions of living daemons.
 *
 * @throws NotFoundError `unknown_run`; CannotRetryError `cannot_retry`.
 */
export async function prepareRetry(
  { host, definitions }: RetryParts,
  { runId, from }: { runId: string; from?: string | undefined },
  isOffered: (workflow: string, hash: string) => boolean,
): Promise<PreparedRetry> {
  const journal = await readJournal(host, runId);
  if (!journal) throw new NotFoundError(`no run ${JSON.stringify(runId)}`, "unknown_run");
  const { workflow } = journal.accepted.data;
  const hash = checkRetryable(journal, from);
  const definition = definitions.pinned(workflow, hash);
  if (!definition && !isOffered(workflow, hash)) throw noDefinition(runId, workflow, hash);
  // Whoever has it says the same of a step there is not; here it is said at once.
  if (definition) reusedSteps(definition, [], from);
  return { workflow, retryOf: { runId, hash, ...(from !== undefined && { from }) } };
}

function checkRetryable(journal: Journal, from: string | undefined): string {
  const { runId, events } = journal;
  if (!hasEnded(journal))
    throw new CannotRetryError(`run ${runId} is not finished; it can be tried again once it is over`);
  if (from === undefined && events.at(-1)?.type === "run.completed") {
    throw new CannotRetryError(`run ${runId} is completed; it can be tried again from one of its steps on`);
  }
  const hash = boundTo(journal);
  if (hash === undefined) throw new CannotRetryError(`run ${runId} was refused before it began; start it anew`);
  return hash;
}

function noDefinition(runId: string, workflow: string, hash: string): CannotRetryError {
  return new CannotRetryError(
    `run ${runId}: no living daemon has workflow ${workflow} as it was bound to it (${hash})`,
  );
}
