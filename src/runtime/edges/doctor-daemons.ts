/** The doctor's look at who is at work: daemons that beat, and what they say of runs. */
import { PermissionError, UnavailableError } from "../../errors.ts";
import type { RunStatus } from "../../workflows/run-status.ts";
import type { Beat } from "../hosts/presence.ts";
import type { RunSummary } from "../hosts/run-list.ts";
import type { Bus } from "../nats/connection.ts";
import type { Subjects } from "../subjects.ts";
import { sleep } from "./abortable.ts";
import type { Client } from "./client.ts";
import type { DaemonReport, RunsReport } from "./diagnosis.ts";

const UNFINISHED = ["pending", "running", "waiting", "failing", "cancelling"] as const satisfies readonly RunStatus[];
// A page each; who has more knows that it is many.
const PAGE = 500;
const MAX_PAGES = 10;
// Enough to see what they have in common.
const MAX_PARKED = 100;

/** Listens to beats for `listenMs` milliseconds; a daemon that says it leaves does not count. */
export async function listenForDaemons(bus: Bus, { presence }: Subjects, listenMs: number): Promise<DaemonReport[]> {
  const heard = new Map<string, DaemonReport>();
  let denied = false;
  const subscription = bus.nc.subscribe(presence, {
    callback(error, message) {
      if (error) denied = true;
      else note(message.string());
    },
  });
  await sleep(listenMs);
  subscription.unsubscribe();
  if (denied) throw new PermissionError(presence, "subscribe");
  return [...heard.values()].sort((a, b) => a.host.localeCompare(b.host));

  function note(text: string) {
    const beat = parse(text);
    if (!beat) return;
    const { host, incarnation, agents, workflows, load, tripped, down } = beat;
    const troubles = { ...(tripped && { tripped }), ...(down && { down }) };
    if (beat.leaving) heard.delete(incarnation);
    else heard.set(incarnation, { host, incarnation, agents, workflows, load, ...troubles });
  }
}

/** Asks a daemon for the runs that are not over; undefined where none answers. */
export async function examineRuns(client: Client): Promise<RunsReport | undefined> {
  const report: RunsReport = { pending: 0, running: 0, waiting: 0, failing: 0, cancelling: 0, more: false, parked: [] };
  try {
    for (const status of UNFINISHED) await count(status);
    return report;
  } catch (error) {
    if (error instanceof UnavailableError) return undefined;
    throw error;
  }

  async function count(status: (typeof UNFINISHED)[number]): Promise<void> {
    let cursor: string | undefined;
    for (let pages = 0; pages < MAX_PAGES; pages += 1) {
      const page = await client.list({ status, limit: PAGE, ...(cursor !== undefined && { cursor }) });
      report[status] += page.runs.length;
      for (const run of page.runs) noteParked(run);
      cursor = page.cursor;
      if (cursor === undefined) return;
    }
    report.more = true;
  }

  function noteParked({ runId, workflow, parked }: RunSummary) {
    if (parked !== undefined && report.parked.length < MAX_PARKED) {
      report.parked.push({ runId, workflow, reason: parked });
    }
  }
}

function parse(text: string): Beat | undefined {
  try {
    const beat = JSON.parse(text) as Beat;
    return beat.v === 1 && Array.isArray(beat.agents) && Array.isArray(beat.workflows) ? beat : undefined;
  } catch {
    // Somebody else writes there; daemons log it.
    return undefined;
  }
}
