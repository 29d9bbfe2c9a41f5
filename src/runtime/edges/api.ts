/** The control plane: the NATS micro service all daemons answer together. docs/protocol.md describes it. */
import type { Logger } from "pino";
import type { TaskEntry } from "../../actors/task.ts";
import { PayloadTooLargeError } from "../../errors.ts";
import type { RunEvent } from "../../workflows/run-events.ts";
import type { RunRecord } from "../../workflows/run-record.ts";
import type { RunIndex } from "../hosts/run-index.ts";
import type { Bus } from "../nats/connection.ts";
import type { Journals } from "../nats/journal.ts";
import { headers, type ServiceMsg } from "../nats/nats.ts";
import { openPayloads } from "../nats/payloads.ts";
import type { Subjects } from "../subjects.ts";
import { describeError, ERROR_CODE_HEADER, ERROR_HEADER } from "./api-errors.ts";
import { type ApiName, type ApiRequest, apiRequests, readApiRequest } from "./api-requests.ts";
import { openDeadApi } from "./dead-api.ts";
import { openRunApi, type ParkedRuns, type RunApiParts, type RunRetries } from "./run-api.ts";
import type { ScheduleApi } from "./schedule-api.ts";
import type { WorkflowApi } from "./workflow-api.ts";

/** An agent as `agents.list` shows it. */
export type AgentListing = {
  name: string;
  /** The daemons that serve its mailbox. */
  hosts: readonly string[];
  description?: string;
  model?: string;
  provider?: string;
  tools?: readonly string[];
  /** The tools of MCP servers it refers to. */
  mcp?: readonly string[];
  handoffs?: readonly string[];
  /** No daemon hosts it; a foreign worker does. */
  remote?: boolean;
  /** Those of the daemons where it waits for a provider of its models to be back. */
  tripped?: readonly string[];
};

export type ApiOptions = {
  bus: Bus;
  subjects: Subjects;
  index: RunIndex;
  journals: Journals<RunEvent[]>;
  taskJournals: Pick<Journals<TaskEntry>, "read">;
  workflows: WorkflowApi;
  /** Whether a workflow, or a version of it, can be started in this troupe; and that version's hash, where it is known. */
  startable: RunApiParts["startable"];
  /** The definitions this daemon has. */
  definitions: RunApiParts["definitions"];
  agents(): readonly AgentListing[];
  schedules: ScheduleApi;
  /** Decides about runs that no daemon could continue. */
  parked: ParkedRuns;
  /** Knows whether a run can be tried again. */
  retries: RunRetries;
  logger: Logger;
  /** The most one value may take as JSON, in bytes. @default 64 MiB */
  maxPayloadBytes?: number;
  /** The service's version, strict semver. */
  version: string;
};

export type Api = {
  /** Answers what it has taken, takes nothing more. */
  stop(): Promise<void>;
};

type Handlers = { [Name in ApiName]: (request: ApiRequest<Name>, message: ServiceMsg) => unknown };

/** Starts answering `<prefix>.api.>`; `nats micro ls` shows it. */
export async function startApi(options: ApiOptions): Promise<Api> {
  const { bus, subjects, index, journals, workflows, startable, agents, schedules, logger, version } = options;
  const payloads = openPayloads(bus.objects, subjects, { maxBytes: options.maxPayloadBytes });
  const { taskJournals, parked, retries, definitions } = options;
  const known = { startable, definitions };
  const runs = openRunApi({ bus, subjects, index, journals, taskJournals, payloads, ...known, parked, retries });
  const dead = openDeadApi({ bus, subjects });
  const handlers: Handlers = {
    "runs.start": (request, { headers }) => runs.start(request, headers),
    "runs.get": (request) => runs.get(request),
    "runs.list": (request) => runs.list(request),
    "runs.result": (request) => runs.result(request),
    "runs.cancel": (request) => runs.cancel(request),
    "runs.retry": (request, { headers }) => runs.retry(request, headers),
    "runs.resume": (request) => runs.resume(request),
    "runs.fail": (request) => runs.fail(request),
    "runs.signal": (request) => runs.signal(request),
    "approvals.list": (request) => runs.approvals(request),
    "runs.journal": (request) => runs.journal(request),
    "runs.logs": (request) => runs.logs(request),
    "runs.metrics": (request) => runs.metrics(request),
    "workflows.list": () => workflows.list(),
    "workflows.get": (request) => workflows.get(request),
    "workflows.source": (request) => workflows.source(request),
    "workflows.versions": (request) => workflows.versions(request),
    "workflows.put": (request) => workflows.put(request),
    "workflows.delete": (request) => workflows.delete(request),
    "agents.list": () => ({ agents: agents() }),
    "schedules.list": () => ({ schedules: schedules.list((runId) => index.get(runId)?.status) }),
    "schedules.put": (request) => schedules.put(request, startable),
    "schedules.delete": (request) => schedules.delete(request),
    "dead.list": (request) => dead.list(request),
    "dead.show": (request) => dead.show(request),
    "dead.redrive": (request) => dead.redrive(request),
    "dead.drop": (request) => dead.drop(request),
    "tasks.journal": (request) => runs.taskJournal(request),
  };
  const atWork = new Set<Promise<void>>();
  const service = await bus.nc.services.add({
    name: subjects.service,
    version,
    description: "Runs of agent workflows: start, watch, cancel",
  });
  const group = service.addGroup(subjects.api);
  for (const endpoint of Object.keys(apiRequests) as ApiName[]) {
    group.addEndpoint(endpoint.replaceAll(".", "-"), {
      subject: endpoint,
      handler: (error, message) => {
        if (error) return;
        const answered = answer(endpoint, message);
        atWork.add(answered);
        void answered.finally(() => atWork.delete(answered));
      },
    });
  }
  let stopping = false;
  void service.stopped.then((error) => {
    if (!stopping && !bus.nc.isClosed()) logger.error({ err: error }, "the API is not served any more");
  });

  return {
    async stop() {
      stopping = true;
      const stopped = service.stop();
      runs.close();
      if (bus.connected()) await stopped;
      await Promise.all(atWork);
    },
  };

  async function answer<Name extends ApiName>(endpoint: Name, message: ServiceMsg): Promise<void> {
    try {
      const request = readApiRequest(endpoint, message.string());
      const whole = await handlers[endpoint](request, message);
      const body = Buffer.from(JSON.stringify(whole));
      const room = payloads.room(0);
      if (body.length <= room) message.respond(body);
      else message.respond(Buffer.from(JSON.stringify(await smaller(endpoint, whole, body.length))));
    } catch (error) {
      answerError(endpoint, message, error);
    }
  }

  /** An answer the broker would not take; of a run the large values are kept with it anyway. */
  async function smaller(endpoint: ApiName, whole: unknown, bytes: number): Promise<object> {
    const what = `the answer to ${endpoint}`;
    const room = payloads.room(0);
    if (endpoint !== "runs.get") throw new PayloadTooLargeError(what, bytes, room);
    const record = whole as RunRecord;
    const fields = [
      ...["/input", "/output", "/metadata"],
      ...record.steps.map((_, i) => `/steps/${i}/output`),
      ...record.compensations.map((_, i) => `/compensations/${i}/output`),
    ];
    const [left] = await payloads.detach([record], { what, fields, bytes, room, runId: record.runId });
    return left ?? {};
  }

  function answerError(endpoint: ApiName, message: ServiceMsg, error: unknown) {
    const { number, body } = describeError(error);
    if (number === 500) logger.error({ endpoint, err: error }, "an API request failed");
    const hdrs = headers();
    hdrs.set(ERROR_CODE_HEADER, String(number));
    // A header is one line.
    hdrs.set(ERROR_HEADER, body.error.message.replaceAll(/\s+/g, " ").slice(0, 512));
    try {
      message.respond(JSON.stringify(body), { headers: hdrs });
    } catch (failure) {
      // The connection is closing; the caller will ask another daemon.
      logger.debug({ endpoint, err: failure }, "an API answer could not be sent");
    }
  }
}
