/** Checks a worker in any language against docs/protocol.md, by playing the owner of the runs it works for. */
import { NotFoundError, UsageError } from "../../errors.ts";
import type { Bus } from "../nats/connection.ts";
import { isToken, subjectsFor } from "../subjects.ts";
import type { Check, CheckBench, ConformanceInputs, ConformanceLimits, Passed } from "./check.ts";
import { CheckFailure } from "./check-failure.ts";
import { mailboxChecks } from "./mailbox-checks.ts";
import { ownerChecks } from "./owner-checks.ts";
import { type Given, openProbeOwner, type ProbeOwner } from "./probe-owner.ts";
import { quietFor, taskChecks } from "./task-checks.ts";

export type ConformanceOptions = ConformanceInputs & {
  bus: Bus;
  /** The worker's mailbox, `<prefix>.agents.<agent>`. */
  subject: string;
  /** Ids of the checks to make. @default all */
  only?: readonly string[];
  limits?: Partial<ConformanceLimits>;
};

/** What became of one check. */
export type CheckResult = {
  id: string;
  sentence: string;
  /** Where `docs/protocol.md` asks for it. */
  place: Check["place"];
  ms: number;
} & ({ status: "passed" } | { status: "failed"; problem: string } | { status: "skipped"; reason: string });

export type ConformanceReport = {
  subject: string;
  /** What the worker calls itself, where it says. */
  worker?: string;
  /** Whether no check failed. */
  conforms: boolean;
  passed: number;
  failed: number;
  skipped: number;
  checks: CheckResult[];
};

/** Every check, in the order they are made. */
export const conformanceChecks: readonly Check[] = [...taskChecks, ...mailboxChecks, ...ownerChecks];

const LIMITS: ConformanceLimits = {
  acceptMs: 1_000,
  silenceMs: 15_000,
  outcomeMs: 60_000,
  cancelMs: 10_000,
  quietMs: 4_000,
};

/**
 * Makes the checks one after the other; takes some seconds for an agent that answers at once, and `slowInput` once more for
 * every check that needs it.
 *
 * @throws UsageError for a subject that is no mailbox, or an unknown check; NotFoundError `no_worker` where nobody serves it.
 */
export async function checkWorker(options: ConformanceOptions): Promise<ConformanceReport> {
  const { bus, subject, only, limits, input, slowInput, handoffInput } = options;
  const { prefix, agent } = readMailbox(subject);
  const chosen = choose(only);
  const subjects = subjectsFor(prefix);
  const owner = openProbeOwner({ bus, subjects, agent });
  const inputs = { input, slowInput, handoffInput };
  const bench = { bus, subjects, agent, inputs, limits: { ...LIMITS, ...limits } };
  const made: Made[] = [];
  try {
    for (const check of chosen) {
      const one = await make(check, bench, owner);
      if (made.length === 0 && one.noWorker) throw new NotFoundError(`${subject}: nobody serves it`, "no_worker");
      made.push(one);
    }
    return reportOf(subject, await settle(made, bench.limits.quietMs));
  } finally {
    owner.close();
  }
}

function readMailbox(subject: string): { prefix: string; agent: string } {
  const [prefix = "", agents, agent = "", ...more] = subject.split(".");
  if (isToken(prefix) && agents === "agents" && isToken(agent) && more.length === 0) return { prefix, agent };
  throw new UsageError(`subject: expected <prefix>.agents.<agent>, got ${JSON.stringify(subject)}`);
}

function choose(only: readonly string[] | undefined): readonly Check[] {
  const ids = conformanceChecks.map(({ id }) => id);
  const unknown = only?.find((id) => !ids.includes(id));
  if (unknown !== undefined) throw new UsageError(`only: expected ${ids.join(", ")}, got ${JSON.stringify(unknown)}`);
  return only ? conformanceChecks.filter(({ id }) => only.includes(id)) : conformanceChecks;
}

type Made = { result: CheckResult; worker?: string; noWorker: boolean; afterwards?: () => void; at: number };

async function make(
  check: Check,
  bench: Omit<CheckBench, "give" | "giveText" | "askForNone">,
  owner: ProbeOwner,
): Promise<Made> {
  const { id, sentence, place } = check;
  const given: Given[] = [];
  const begunAt = performance.now();
  const give: CheckBench["give"] = (changes, receipt) => {
    const one = owner.give(changes, receipt);
    given.push(one);
    return one;
  };
  const { passed, failure } = await attempt(() => check.run({ ...bench, ...owner, give }));
  for (const one of given) owner.dismiss(one);
  const at = performance.now();
  const about = { id, sentence, place, ms: Math.round(at - begunAt) };
  const worker = given.flatMap(({ heard }) => heard).find(({ body }) => typeof body.worker === "string")?.body.worker;
  const rest = { at, noWorker: failure?.code === "no_worker", ...(typeof worker === "string" && { worker }) };
  if (failure) return { ...rest, result: { ...about, status: "failed", problem: failure.message } };
  if (passed && "skipped" in passed) {
    return { ...rest, result: { ...about, status: "skipped", reason: passed.skipped } };
  }
  return { ...rest, result: { ...about, status: "passed" }, ...passed };
}

async function attempt<T extends Passed>(work: () => Promise<T>): Promise<{ passed?: T; failure?: CheckFailure }> {
  try {
    return { passed: await work() };
  } catch (error) {
    if (!(error instanceof CheckFailure)) throw error;
    return { failure: error };
  }
}

/** What must not be said is listened for beside the other checks, and at the end for what is left of the time. */
async function settle(made: readonly Made[], quietMs: number): Promise<Made[]> {
  const settled: Made[] = [];
  for (const one of made) {
    const { afterwards, at, result } = one;
    if (afterwards) await quietFor(Math.max(0, at + quietMs - performance.now()));
    const { failure } = await attempt(async () => void afterwards?.());
    if (!failure) settled.push(one);
    else settled.push({ ...one, result: { ...result, status: "failed", problem: failure.message } });
  }
  return settled;
}

function reportOf(subject: string, made: readonly Made[]): ConformanceReport {
  const checks = made.map(({ result }) => result);
  const count = (status: CheckResult["status"]) => checks.filter((check) => check.status === status).length;
  const worker = made.find((one) => one.worker !== undefined)?.worker;
  const failed = count("failed");
  return {
    subject,
    ...(worker !== undefined && { worker }),
    conforms: failed === 0,
    passed: count("passed"),
    failed,
    skipped: count("skipped"),
    checks,
  };
}
