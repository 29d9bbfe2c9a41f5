/** The bodies of API requests, checked strictly: an unknown field is an error, because a misspelt one would be ignored. */
import { z } from "zod";
import { UsageError } from "../../errors.ts";
import { RUN_STATUSES } from "../../workflows/run-status.ts";
import { scheduleSchema } from "../../workflows/schedule-schema.ts";
import { refsField, requestFields } from "../hosts/request.ts";
import { isToken } from "../subjects.ts";

const NAME = 'expected 1 to 128 letters, digits, "-" or "_"';
const name = z.string({ error: NAME }).refine(isToken, { error: NAME });
const instant = z.iso.datetime({ offset: true, error: "expected an ISO 8601 instant such as 2030-01-31T09:00:00Z" });

/** How long `runs.result` may be asked to wait, in milliseconds: below what proxies and clients take for dead. */
const MAX_WAIT_MS = 30_000;

/** A version as it is named in requests. */
const version = requestFields.version;

/** A section of a configuration file. */
const section = z.record(z.string(), z.unknown());

/** A dead letter's id: where it stands in its stream. */
const letter = z.number().int().min(1);

export const apiRequests = {
  "runs.start": z.strictObject({ workflow: name, input: z.unknown(), refs: refsField, ...requestFields }),
  "runs.get": z.strictObject({ runId: name }),
  "runs.list": z.strictObject({
    workflow: name.optional(),
    status: z.enum(RUN_STATUSES as [string, ...string[]] as never as typeof RUN_STATUSES).optional(),
    sessionId: z.string().optional(),
    userId: z.string().optional(),
    since: instant.optional(),
    until: instant.optional(),
    limit: z.number().int().min(1).max(500).optional(),
    cursor: z.string().optional(),
  }),
  "runs.result": z.strictObject({ runId: name, waitMs: z.number().int().min(0).max(MAX_WAIT_MS).default(0) }),
  "runs.cancel": z.strictObject({
    runId: name,
    reason: z.string().optional(),
    by: z.string().optional(),
    force: z.boolean().optional(),
  }),
  "runs.retry": z.strictObject({ runId: name, from: name.optional(), newRunId: name.optional() }),
  "runs.resume": z.strictObject({ runId: name }),
  "runs.fail": z.strictObject({ runId: name, reason: z.string().min(1).optional() }),
  "runs.signal": z.strictObject({ runId: name, name, payload: z.unknown().optional(), id: name.optional() }),
  "runs.journal": z.strictObject({ runId: name, from: z.number().int().min(1).default(1) }),
  "runs.logs": z.strictObject({ runId: name, from: z.number().int().min(1).default(1) }),
  "runs.metrics": z.strictObject({ runId: name }),
  "approvals.list": z.strictObject({
    workflow: name.optional(),
    assignee: z.string().min(1).optional(),
    limit: z.number().int().min(1).max(500).default(100),
  }),
  "workflows.list": z.strictObject({}),
  "workflows.get": z.strictObject({ workflow: name, version }),
  "workflows.source": z.strictObject({ workflow: name, version }),
  "workflows.versions": z.strictObject({ workflow: name }),
  "workflows.put": z.strictObject({
    agents: section.optional(),
    workflows: section,
    expected: z.record(z.string(), z.number().int().min(0)).optional(),
    by: z.string().optional(),
  }),
  "workflows.delete": z.strictObject({
    workflow: name,
    expected: z.number().int().min(0).optional(),
    by: z.string().optional(),
  }),
  "agents.list": z.strictObject({}),
  "schedules.list": z.strictObject({}),
  "schedules.put": scheduleSchema,
  "schedules.delete": z.strictObject({ name }),
  "dead.list": z.strictObject({
    limit: z.number().int().min(1).max(100).default(50),
    cursor: z.string().optional(),
  }),
  "dead.show": z.strictObject({ seq: letter }),
  "dead.redrive": z.strictObject({ seq: letter }),
  "dead.drop": z.strictObject({ seq: letter }),
  "tasks.journal": z.strictObject({ runId: name, taskId: name, from: z.number().int().min(1).default(1) }),
};

export type ApiName = keyof typeof apiRequests;
export type ApiRequest<Name extends ApiName> = z.output<(typeof apiRequests)[Name]>;

/**
 * Reads the body of a request to endpoint `name`; no body is an empty one.
 *
 * @throws UsageError `invalid_request`, naming every field that is off.
 */
export function readApiRequest<Name extends ApiName>(endpoint: Name, text: string): ApiRequest<Name> {
  let body: unknown;
  try {
    body = text === "" ? {} : JSON.parse(text);
  } catch {
    throw new UsageError(`${endpoint}: expected JSON, got ${text.slice(0, 80)}`, "invalid_request");
  }
  const parsed = apiRequests[endpoint].safeParse(body);
  const problems = parsed.success
    ? []
    : parsed.error.issues.map((issue) => {
        const where = [...issue.path, ...(issue.code === "unrecognized_keys" ? issue.keys : [])];
        return `${where.join(".") || "body"}: ${issue.message}`;
      });
  if (endpoint === "runs.start" && typeof body === "object" && body !== null && !("input" in body)) {
    problems.push("input: expected any JSON value, got none");
  }
  if (!parsed.success || problems.length > 0)
    throw new UsageError(`${endpoint}: ${problems.join("; ")}`, "invalid_request");
  return parsed.data as ApiRequest<Name>;
}
