/** Checks of what a worker has in common with others: its mailbox, and to whom it hands over. */
import type { Task } from "../../actors/task.ts";
import type { Msg } from "../nats/nats.ts";
import { type Check, type CheckBench, outcomeAt, takenAt } from "./check.ts";
import { CheckFailure } from "./check-failure.ts";
import { quietFor } from "./task-checks.ts";

/** Of two members each gets a task by chance: that one gets none of so many never happens. */
const MOST_TASKS = 40;
const ENOUGH = 2;
/** Whom tasks may be handed to; nobody serves it. */
const TARGET = "conformance_target";
const LISTENING_MS = 300;

export const mailboxChecks: readonly Check[] = [
  {
    id: "queue-group",
    sentence:
      "The worker shares its mailbox: a task that another member of the queue group `workers` gets is not its own.",
    place: { heading: "Subjects", says: "core, queue group `workers`" },
    run: shareMailbox,
  },
  {
    id: "handoff",
    sentence: "A handoff goes to one of the agents that the task names.",
    place: { heading: "Tasks", says: "A handoff must go to" },
    async run(bench) {
      const { handoffInput: input } = bench.inputs;
      if (input === undefined) return { skipped: "needs an input that makes it hand over (--handoff-input)" };
      const forwarded: Task[] = [];
      const target = bench.bus.nc.subscribe(bench.subjects.mailbox(TARGET), {
        callback: (error, msg) => void (error ?? forwarded.push(msg.json<Task>())),
      });
      try {
        const handoffs = [{ to: TARGET, description: "Takes over what is not for you.", context: "full" }];
        const said = await outcomeAt(bench, bench.give({ input, handoffs }));
        const { to, next } = said.body as { to?: unknown; next?: { forwarded?: unknown } };
        if (said.type !== "handoff" || to !== TARGET) {
          throw new CheckFailure(`expected a handoff to ${TARGET}, got ${said.text.slice(0, 200)}`);
        }
        if (next?.forwarded === true) await wait(() => forwarded.length > 0);
        if (next?.forwarded === true && forwarded.length === 0) {
          throw new CheckFailure(`expected the next task, which is said to be forwarded, in the mailbox of ${TARGET}`);
        }
        return undefined;
      } finally {
        target.unsubscribe();
      }
    },
  },
  {
    id: "no-handoff",
    sentence: "Where a task names no agents to hand over to, its outcome is no handoff.",
    place: { heading: "Tasks", says: "Empty outside handoff workflows." },
    async run(bench) {
      const { input, handoffInput = input } = bench.inputs;
      const said = await outcomeAt(bench, bench.give({ input: handoffInput }));
      if (said.type !== "handoff") return undefined;
      throw new CheckFailure(`expected completed or failed, got ${said.text.slice(0, 200)}`);
    },
  },
];

async function shareMailbox(bench: CheckBench): Promise<undefined> {
  const { bus, subjects, agent, limits } = bench;
  const mine = new Set<string>();
  const member = bus.nc.subscribe(subjects.mailbox(agent), {
    queue: subjects.workers,
    callback: (error, msg) => error ?? note(mine, msg),
  });
  let theirs = 0;
  try {
    await bus.nc.flush();
    for (let sent = 0; sent < MOST_TASKS && (mine.size < ENOUGH || theirs === 0); sent++) {
      const given = bench.give({ input: bench.inputs.input });
      const { runId } = given.task;
      await wait(() => mine.has(runId) || given.heard.length > 0, limits.acceptMs);
      // Whoever gets it in spite of the other may be slower.
      if (mine.has(runId)) await quietFor(LISTENING_MS);
      else await takenAt(bench, given.first);
      if (given.heard.length > 0) theirs += 1;
      if (given.heard.length > 0 && mine.has(runId)) {
        throw new CheckFailure("expected a task for one member of the queue group workers only, got it taken by two");
      }
    }
    if (mine.size < ENOUGH || theirs === 0) {
      const got = `${mine.size} of ${MOST_TASKS} tasks at one member, ${theirs} at the worker`;
      throw new CheckFailure(`expected the members of the queue group workers to share tasks, got ${got}`);
    }
    return undefined;
  } finally {
    member.unsubscribe();
  }
}

function note(mine: Set<string>, msg: Msg): void {
  mine.add(msg.json<Task>().runId);
}

async function wait(look: () => boolean, withinMs = 1_000): Promise<void> {
  for (const until = performance.now() + withinMs; !look() && performance.now() < until; ) await quietFor(10);
}
