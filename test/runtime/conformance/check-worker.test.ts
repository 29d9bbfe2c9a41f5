import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { defineAgent } from "../../../src/actors/define-agent.ts";
import type { ModelReply } from "../../../src/actors/model.ts";
import { NotFoundError, UsageError } from "../../../src/errors.ts";
import type { ConformanceLimits } from "../../../src/runtime/conformance/check.ts";
import {
  type CheckResult,
  type ConformanceOptions,
  checkWorker,
  conformanceChecks,
} from "../../../src/runtime/conformance/check-worker.ts";
import { type Bus, connectBus } from "../../../src/runtime/nats/connection.ts";
import { connect } from "../../../src/runtime/nats/nats.ts";
import { startBench } from "../../helpers/agent-host-bench.ts";
import { startTestNats, type TestNats } from "../../helpers/nats-server.ts";
import { type Defect, type OwnWorkerOptions, startOwnWorker } from "../../helpers/own-worker.ts";

/** A machine that others use as well is slow, not wrong; what must not be said is listened for as long as it takes. */
const LIMITS = { acceptMs: 2_000, silenceMs: 5_000, outcomeMs: 10_000, cancelMs: 5_000, quietMs: 1_500 };

let nats: TestNats;
let bus: Bus;
beforeAll(async () => {
  nats = await startTestNats();
  bus = await connectBus({ servers: nats.url, name: "conformance", inboxPrefix: "_INBOX_client" });
});
afterAll(async () => {
  await bus.close();
  await nats[Symbol.asyncDispose]();
});

describe.concurrent("a worker that is right", () => {
  it("passes every check", async () => {
    const report = await check(undefined, {});
    expect(notPassed(report.checks)).toEqual([]);
    expect(report).toMatchObject({ conforms: true, failed: 0, skipped: 0, worker: "own/1" });
  });

  it("may have room for one task at a time, and leave its output to a reference", async () => {
    const report = await check(undefined, {}, { room: 1, refersOutput: true });
    expect(notPassed(report.checks)).toEqual([]);
  });

  it("is not asked for what its inputs cannot show", async () => {
    const report = await check(undefined, { slowInput: undefined, handoffInput: undefined, input: { n: 1 } });
    const skipped = report.checks.filter(({ status }) => status === "skipped").map(({ id }) => id);
    const needSlow = ["working", "rejoined", "owners-at-work", "known", "cancel"];
    expect(skipped).toEqual(["unicode", "large", "handoff", ...needSlow]);
    expect(report).toMatchObject({ conforms: true, failed: 0 });
  });
});

it("an agent of Troupe itself passes every check", async () => {
  await using bench = await startBench(nats);
  const agent = defineAgent({ name: "scripted", model: "m", instructions: "Answer." });
  await bench.host(
    [agent],
    async ({ request, context }) => {
      const said = request.messages.at(-1)?.content ?? "";
      if (said === "slow") await wait(1_500, undefined, { signal: context.signal });
      return said === "over" && request.tools.length > 0 ? callOf("transfer_to_conformance_target") : words("done");
    },
    { options: { workingEveryMs: 300, outcomeTimeoutMs: 400, outcomeAttempts: 10 } },
  );
  const report = await checkWorker({ ...INPUTS, bus, subject: "troupe.agents.scripted", limits: LIMITS });
  expect(notPassed(report.checks)).toEqual([]);
});

/** What each check finds, by its id; a check without a defect here finds nothing that anybody knows of. */
const FOUND: { [id: string]: [defect: Defect, problem: RegExp][] } = {
  accepted: [["accepts nothing", /expected accepted or an outcome within 300 ms, got (nothing|working)/]],
  outcome: [
    ["publishes its outcome", /as a request, got it without a reply subject/],
    ["leaves out the attempt", /outcome\.attempt: expected 1, got/],
  ],
  control: [
    ["accepts without a reply subject", /accepted with a reply subject, got none/],
    ["accepts another delivery", /accepted\.delivery: expected 1, got 7/],
  ],
  resend: [
    ["sends its outcome once", /expected the outcome again/],
    ["makes new bytes of its outcome", /expected the same bytes again/],
    ["hears no receipt", /no outcome after it was recorded/],
  ],
  superseded: [["hears no superseded", /no outcome after it was superseded/]],
  "unknown-fields": [["knows all fields", /a task with an unknown field.*unknown_field/]],
  unicode: [["knows only ASCII", /a text in many scripts.*not_ascii/]],
  large: [["dies of much", /expected an outcome within 4000 ms, got accepted/]],
  "later-reference": [["passes over references", /expected failed, since the input cannot be read/]],
  concurrent: [["mixes tasks up", /outcome\.taskId: expected|expected an outcome within/]],
  malformed: [
    ["takes anything for a task", /expected bad_task or nothing for .*, got accepted/],
    ["dies of what is no task", /expected an outcome within/],
  ],
  "queue-group": [["is in no queue group", /taken by two/]],
  handoff: [["hands over to anybody", /expected a handoff to conformance_target, got .*anybody/]],
  "no-handoff": [["always hands over", /expected completed or failed, got .*handoff/]],
  repeated: [["does it again", /the same outcome, byte for byte/]],
  "owners-outcome": [["hears no owners", /expected accepted or the outcome on the new reply subject/]],
  "owners-none": [["has every task", /expected unknown or nothing, got accepted/]],
  working: [["never says working", /expected working within 600 ms/]],
  rejoined: [
    ["begins it twice", /no outcome beside the first|on the old one/],
    ["stays with the old owner", /got it on the old one/],
  ],
  "owners-at-work": [["hears no owners", /accepted at <reply>\.<taskId>/]],
  known: [["stops when it is known", /expected the task to go on|the task to be still at work/]],
  cancel: [
    ["hears no cancel", /expected failed with the code cancelled, got .*completed/],
    ["calls it otherwise", /the code cancelled, got .*stopped/],
  ],
};

/** Where a check waits in vain. */
const SOONER: { [id: string]: Partial<ConformanceLimits> } = {
  accepted: { acceptMs: 300 },
  large: { outcomeMs: 4_000 },
  malformed: { outcomeMs: 4_000 },
  working: { silenceMs: 600 },
};

describe("a worker that is wrong", () => {
  it("is known for every check", () => {
    expect(Object.keys(FOUND).sort()).toEqual(conformanceChecks.map(({ id }) => id).sort());
  });

  const cases = Object.entries(FOUND).flatMap(([id, defects]) =>
    defects.map(([defect, problem]) => ({ id, defect, problem })),
  );
  const fails = async ({ id, defect, problem }: (typeof cases)[number]) => {
    const report = await check(defect, { only: [id], limits: { ...LIMITS, ...SOONER[id] } });
    expect(report).toMatchObject({ conforms: false, failed: 1, checks: [{ id, status: "failed" }] });
    expect(report.checks[0]).toHaveProperty("problem", expect.stringMatching(problem));
  };
  // It answers for the tasks of all the others too.
  const isAlone = ({ defect }: (typeof cases)[number]) => defect === "has every task";
  it.concurrent.each(cases.filter((each) => !isAlone(each)))("that $defect fails the check $id", fails);

  describe("alone", () => {
    it.each(cases.filter(isAlone))("that $defect fails the check $id", fails);
  });
});

it("a mailbox that nobody serves is said to be that", async () => {
  const options = { ...INPUTS, bus, subject: "troupe.agents.nobody", limits: LIMITS };
  await expect(checkWorker(options)).rejects.toThrow(NotFoundError);
  await expect(checkWorker(options)).rejects.toThrow("troupe.agents.nobody: nobody serves it");
});

it("what is no mailbox, and no check, is a mistake of the caller", async () => {
  const about = { ...INPUTS, bus, limits: LIMITS };
  await expect(checkWorker({ ...about, subject: "troupe.agents" })).rejects.toThrow(UsageError);
  const unknown = checkWorker({ ...about, subject: "troupe.agents.x", only: ["acepted"] });
  await expect(unknown).rejects.toThrow(/only: expected accepted, outcome.*, got "acepted"/);
});

const INPUTS = { input: "go", slowInput: "slow", handoffInput: "over" } as const;
let workers = 0;

/** Checks a new worker with its own mailbox and connection. */
async function check(
  defect: Defect | undefined,
  more: Partial<ConformanceOptions>,
  habits: Pick<OwnWorkerOptions, "room" | "refersOutput"> = {},
) {
  workers += 1;
  const agent = `own_${workers}`;
  const nc = await connect({ servers: nats.url });
  try {
    startOwnWorker({ nc, agent, defect, ...habits });
    await nc.flush();
    return await checkWorker({ ...INPUTS, bus, subject: `troupe.agents.${agent}`, limits: LIMITS, ...more });
  } finally {
    await nc.close();
  }
}

function notPassed(checks: readonly CheckResult[]): CheckResult[] {
  return checks.filter(({ status }) => status !== "passed");
}

const USAGE = { inputTokens: 1, outputTokens: 1 };

function words(content: string): ModelReply {
  return { content, toolCalls: [], finishReason: "stop", usage: USAGE, model: "m" };
}

function callOf(name: string): ModelReply {
  const toolCalls = [{ id: "c1", name, arguments: "{}" }];
  return { content: null, toolCalls, finishReason: "tool_calls", usage: USAGE, model: "m" };
}
