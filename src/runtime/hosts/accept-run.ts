/**
 * Makes a request a run: it is driven here from its first entry on, or begins and ends in that entry.
 *
 * Invariants
 * H4  Whatever is asked for becomes a run, also where it cannot be one: whoever asked is told, and it is seen in lists.
 * H6  Large values of a request are uploads. They are read before there is a run, which keeps them among its own, and deleted
 *     once there is.
 */
import { validateOutput } from "../../actors/schemas.ts";
import { FencedError, PayloadTooLargeError, toErrorRecord, UnavailableError } from "../../errors.ts";
import { runTrace } from "../../tracing/traceparent.ts";
import type { Tracing } from "../../tracing/tracing.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { ReusedStep } from "../../workflows/reused-steps.ts";
import type { RetryOf, RunEventBody, RunRequest } from "../../workflows/run-events.ts";
import { LARGE } from "../nats/payloads.ts";
import type { TransientMap } from "../transient-map.ts";
import { type ActiveRun, activateRun, type RunHostParts } from "./active-run.ts";
import type { Definitions } from "./definitions.ts";
import { type AppendLoneEntry, type Cancel, cancelledAtOnce } from "./lone-entry.ts";
import { type AcceptedBody, claimedEvent } from "./make-events.ts";
import type { IncomingRequest } from "./request.ts";
import { readRetriedRun } from "./retried-run.ts";

export type AcceptRunParts = {
  /** The runs that are driven here. */
  runs: TransientMap<string, ActiveRun>;
  host: RunHostParts;
  definitions: Definitions;
  tracing: Tracing;
  appendAlone: AppendLoneEntry;
};

type Accepted = "accepted" | "exists";

const START = { seq: 0, n: 0, epoch: 1 };

/** Makes a request a run, with `cancel` one that ends before anything of it is done. */
export async function acceptRun(
  parts: AcceptRunParts,
  incoming: IncomingRequest,
  cancel: (Cancel & { seq: number }) | undefined,
): Promise<Accepted> {
  if (incoming.refs) return acceptLarge(parts, incoming, cancel);
  const definition = wantedBy(parts, incoming);
  if (cancel) return endAtOnce(parts, incoming, cancelledAtOnce(cancel), definition);
  const { retryOf } = incoming.request;
  if (retryOf && incoming.problem === undefined) return retry(parts, incoming, retryOf);
  const refusal = refusalOf(parts.definitions, incoming, definition);
  if (refusal || !definition) {
    return refuse(parts, incoming, refusal ?? { code: "unknown_workflow", message: incoming.workflow });
  }
  return start(parts, incoming, definition);
}

// H6
async function acceptLarge(
  parts: AcceptRunParts,
  { refs = [], ...incoming }: IncomingRequest,
  cancel: (Cancel & { seq: number }) | undefined,
): Promise<Accepted> {
  const { payloads, logger } = parts.host;
  const read = await payloads
    .resolve({ ...incoming.request, refs }, { fields: LARGE.request, of: "uploads" })
    .then((request) => ({ request }))
    .catch((error: unknown) => ({ error }));
  if ("error" in read && read.error instanceof UnavailableError) throw read.error;
  const accepted = await ("request" in read
    ? acceptRun(parts, { ...incoming, ...read }, cancel)
    : endAtOnce(
        parts,
        incoming,
        cancel ? cancelledAtOnce(cancel) : failedWith(toErrorRecord(read.error)),
        wantedBy(parts, incoming),
      ));
  payloads
    .removeUploads({ refs })
    // They are deleted when they are old.
    .catch((error: unknown) => logger.debug({ runId: incoming.runId, err: error }, "could not delete an upload"));
  return accepted;
}

/** A run that tries another one again has that one's input, its definition, and what it need not do again. */
async function retry(parts: AcceptRunParts, incoming: IncomingRequest, retryOf: RetryOf): Promise<Accepted> {
  const { request, workflow } = incoming;
  const read = await readRetriedRun(parts, workflow, { request, retryOf })
    .then((retried) => ({ retried }))
    .catch((error: unknown) => ({ error }));
  if ("error" in read) {
    if (read.error instanceof UnavailableError) throw read.error;
    return refuse(parts, incoming, toErrorRecord(read.error), parts.definitions.current(workflow));
  }
  const { definition, reused } = read.retried;
  return start(parts, { ...incoming, request: read.retried.request }, definition, reused);
}

async function start(
  parts: AcceptRunParts,
  incoming: IncomingRequest,
  definition: WorkflowDefinition,
  reused: readonly ReusedStep[] = [],
): Promise<Accepted> {
  const { runs, host, tracing } = parts;
  const { runId, workflow } = incoming;
  const accepted = acceptedEvent(tracing, incoming, definition);
  const projection = tracing.run(runId, workflow, accepted.data.trace);
  const run = activateRun(host, { runId, definition, projection, position: START });
  runs.set(runId, run);
  try {
    await run.begin(accepted, claimedEvent(host.writer, "accepted"), reused);
    return "accepted";
  } catch (error) {
    run.close("fenced");
    if (error instanceof FencedError) return "exists";
    if (error instanceof UnavailableError) throw error;
    // A supervisor that cannot begin, an input the journal cannot hold: the run fails with the reason.
    return refuse(parts, incoming, toErrorRecord(error), definition);
  }
}

// H4
function refuse(
  parts: AcceptRunParts,
  incoming: IncomingRequest,
  error: { code: string; message: string },
  definition?: WorkflowDefinition,
): Promise<Accepted> {
  return endAtOnce(parts, incoming, failedWith(error), definition);
}

function failedWith(error: { code: string; message: string }): RunEventBody[] {
  return [{ type: "run.failed", data: { error } }];
}

async function endAtOnce(
  { host, tracing, appendAlone }: AcceptRunParts,
  incoming: IncomingRequest,
  end: readonly RunEventBody[],
  definition: WorkflowDefinition | undefined,
): Promise<Accepted> {
  const { runId, workflow } = incoming;
  const accepted = acceptedEvent(tracing, incoming, definition);
  const { trace } = accepted.data;
  const write = (first: AcceptedBody) => {
    const bodies = [first, claimedEvent(host.writer, "accepted"), ...end];
    return appendAlone({ runId, workflow, trace, bodies, position: START });
  };
  try {
    await write(accepted);
  } catch (failure) {
    if (failure instanceof FencedError) return "exists";
    if (!(failure instanceof PayloadTooLargeError)) throw failure;
    await write(withoutContent(accepted));
  }
  return "accepted";
}

/** Whatever was too large, what remains is small: names, times and the trace. */
function withoutContent({ type, data }: AcceptedBody): AcceptedBody {
  const { workflow, replyTo, parent, trace, version, hash, kind } = data;
  return {
    type,
    data: {
      input: null,
      ...(replyTo !== undefined && { replyTo }),
      ...(parent && { parent }),
      workflow,
      trace,
      ...(version !== undefined && { version }),
      ...(hash !== undefined && { hash }),
      ...(kind && { kind }),
    },
  };
}

function acceptedEvent(
  tracing: Tracing,
  { runId, workflow, request, traceparent }: IncomingRequest,
  definition: WorkflowDefinition | undefined,
): AcceptedBody {
  const timeoutMs = timeoutOf(request, definition);
  return {
    type: "run.accepted",
    data: {
      ...request,
      ...(timeoutMs !== undefined && { timeoutMs }),
      workflow,
      ...(definition && { version: definition.version, hash: definition.hash, kind: definition.kind }),
      ...(definition?.kind === "deterministic" && { steps: definition.steps.length }),
      trace: runTrace(runId, traceparent, (traceId) => tracing.decideSampling(traceId)),
    },
  };
}

/** The definition a request is for. */
function wantedBy({ definitions }: AcceptRunParts, { workflow, request }: IncomingRequest) {
  return definitions.find(workflow, request.version);
}

/** How long a run may take: as it is asked for, else as its workflow says. A child has no longer than either. */
function timeoutOf({ timeoutMs, parent }: RunRequest, definition: WorkflowDefinition | undefined): number | undefined {
  const own = definition?.timeoutMs;
  if (!parent || timeoutMs === undefined || own === undefined) return timeoutMs ?? own;
  return Math.min(timeoutMs, own);
}

/** Why a request cannot be a run that is driven. */
function refusalOf(
  definitions: Definitions,
  { problem, workflow, request }: IncomingRequest,
  definition: WorkflowDefinition | undefined,
) {
  if (problem !== undefined) return { code: "invalid_request", message: problem };
  if (!definition && request.version !== undefined && definitions.current(workflow)) {
    const message = `workflow ${workflow} has no version ${JSON.stringify(request.version)}`;
    return { code: "unknown_version", message };
  }
  if (!definition) return { code: "unknown_workflow", message: `no workflow is named ${JSON.stringify(workflow)}` };
  if (!definition.input) return undefined;
  const checked = validateOutput(definition.input, request.input);
  return checked.ok ? undefined : { code: "invalid_input", message: `input: ${checked.problems.join("; ")}` };
}
