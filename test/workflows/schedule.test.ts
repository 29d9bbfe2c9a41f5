import { describe, expect, test } from "vitest";
import { DefinitionError } from "../../src/errors.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import { type ScheduleTermsOptions, scheduledRunId } from "../../src/workflows/schedule.ts";

const report = (schedule: object) =>
  defineWorkflow({ name: "report", agents: ["writer"], schedule: schedule as ScheduleTermsOptions });

function problemsOf(schedule: object): string[] {
  try {
    report(schedule);
    return [];
  } catch (error) {
    if (!(error instanceof DefinitionError)) throw error;
    return error.problems.map(({ path, expected, got }) => `${path}: expected ${expected}, got ${got}`);
  }
}

test("a workflow has its schedule with every default, and the same hash as without one", () => {
  const scheduled = report({ cron: "0 3 * * *" });
  expect(scheduled.schedule).toEqual({ cron: "0 3 * * *", timezone: "UTC", missed: "once", overlap: "allow" });
  expect(scheduled.hash).toBe(defineWorkflow({ name: "report", agents: ["writer"] }).hash);
  expect(report({ at: "2030-01-31T10:00:00+01:00", paused: true }).schedule).toEqual({
    at: "2030-01-31T09:00:00.000Z",
    missed: "once",
    overlap: "allow",
    paused: true,
  });
  expect(report({ everyMs: 60_000, input: null, missed: "all", overlap: "skip" }).schedule).toEqual({
    everyMs: 60_000,
    input: null,
    missed: "all",
    overlap: "skip",
  });
});

test("a definition that is read again has the same schedule", () => {
  const { schedule } = report({ cron: "@daily", timezone: "Europe/Berlin", paused: true });
  expect(report(schedule as object).schedule).toEqual(schedule);
});

test.each([
  [{}, /expected one of cron, at and everyMs, got none/],
  [{ cron: "0 3 * * *", everyMs: 60_000 }, /expected one of cron, at and everyMs, got 2/],
  [{ cron: "61 * * * *" }, /schedule\.cron: expected a cron expression of five fields.*minute.*61/],
  [{ cron: "* * * *" }, /schedule\.cron: expected a cron expression of five fields/],
  [{ cron: "2030-01-31T09:00:00" }, /schedule\.cron: expected a cron expression of five fields/],
  [{ cron: "0 0 31 2 *" }, /schedule\.cron: expected an expression that is due at some time/],
  [{ cron: "@reboot" }, /schedule\.cron: expected a cron expression/],
  [{ cron: "0 3 * * *", timezone: "Mars/One" }, /schedule\.timezone: expected an IANA time zone.*"Mars\/One"/],
  [{ everyMs: 60_000, timezone: "UTC" }, /schedule\.timezone: expected only beside cron/],
  [{ everyMs: 999 }, /schedule\.everyMs: expected a whole number of milliseconds, at least 1000, got 999/],
  [{ at: "tomorrow" }, /schedule\.at: expected an ISO 8601 instant.*"tomorrow"/],
  [{ at: "9999-12-31T23:59:59-10:00" }, /schedule\.at: expected an ISO 8601 instant/],
  [{ everyMs: 60_000, missed: "twice" }, /schedule\.missed: expected/],
  [{ every: 60_000 }, /schedule\.every: expected one of the keys cron, timezone, at, everyMs/],
])("what is wrong with %j is told with its place", (schedule, problem) => {
  expect(problemsOf(schedule).join("\n")).toMatch(problem);
});

describe("the id of a scheduled run", () => {
  test("is the name and the instant in UTC, to the millisecond where it matters", () => {
    expect(scheduledRunId("nightly", Date.parse("2026-01-31T02:00:00Z"))).toBe("nightly-20260131T020000Z");
    expect(scheduledRunId("once", Date.parse("2026-01-31T02:00:00.250Z"))).toBe("once-20260131T020000250Z");
  });

  test("fits a subject, however long the name", () => {
    expect(scheduledRunId("x".repeat(64), 1)).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
  });
});
