/** A run's story in the order it happened: its journals, the calls that reached the model server, and what daemons logged. */
import type { RunEvent } from "../src/workflows/run-events.ts";
import type { SoakDaemon } from "./daemon-process.ts";
import type { TrackedRun } from "./tracked-run.ts";

type Line = { at: number; text: string };

/** One line for each thing that happened, with milliseconds since the run was asked for. */
export function timelineOf(run: TrackedRun, daemons: readonly SoakDaemon[]): string[] {
  const lines: Line[] = [
    ...run.journal.map(({ at, value }) => ({ at, text: `journal  ${value.map(tellEvent).join(" | ")}` })),
    ...[...run.tasks].flatMap(([taskId, entries]) =>
      entries.map(({ at, value }) => {
        const what = "turn" in value ? `${value.type} ${value.turn}` : value.type;
        return { at, text: `task     ${taskId}: ${what}` };
      }),
    ),
    ...run.calls.map(({ at, begunAt, n, pid, taskId, turn, state, fault = "", endedAt }) => {
      const lasted = endedAt === undefined ? "" : ` after ${endedAt - at} ms`;
      const came = `begun ${at - begunAt} ms before`;
      return { at, text: `call     ${n} of ${taskId} turn ${turn} by ${pid}, ${came}: ${state} ${fault}${lasted}` };
    }),
    ...run.tools.map(({ at, n, pid, key }) => ({ at, text: `tool     ${n} for ${key} by process ${pid}` })),
    ...daemons.flatMap((daemon) => daemon.log(run.plan.runId).flatMap((line) => loggedIn(daemon.name, line))),
  ];
  return lines
    .toSorted((a, b) => a.at - b.at)
    .map(({ at, text }) => `${String(Math.round(at - run.askedAt)).padStart(8)} ${text}`);
}

/** An event in a few words. */
export function tellEvent(event: RunEvent): string {
  switch (event.type) {
    case "run.claimed":
      return `claimed by ${event.data.host}/${event.data.incarnation} (${event.data.reason})`;
    case "task.sent":
      return `sent ${event.data.taskId} #${event.data.delivery} ${event.data.lost?.reason ?? ""}`;
    case "task.settled":
      return `settled ${event.data.taskId} by ${event.data.worker}: ${event.data.outcome.type}`;
    case "agent.handoff":
      return `handoff ${event.data.taskId} to ${event.data.to} as ${event.data.next.taskId}`;
    case "timer.set":
      return `timer ${event.data.id} due ${event.data.dueAt}`;
    default:
      return event.type;
  }
}

function loggedIn(daemon: string, line: string): Line[] {
  try {
    const { time, pid, msg, taskId, reason, delayMs, delivered } = JSON.parse(line) as { [key: string]: unknown };
    const more = JSON.stringify({ taskId, reason, delayMs, delivered });
    return [{ at: Number(time), text: `log      ${daemon} (${pid}): ${String(msg).slice(0, 120)} ${more}` }];
  } catch {
    // A line that was cut off when its process was killed.
    return [];
  }
}
