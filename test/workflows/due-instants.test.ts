import { describe, expect, test } from "vitest";
import { type DueInstants, dueInstants, dueNow, MOST_AT_ONCE, sameTiming } from "../../src/workflows/due-instants.ts";
import type { ScheduleTiming } from "../../src/workflows/schedule.ts";

const at = (iso: string) => Date.parse(iso);
const iso = (instants: readonly number[]) => instants.map((ms) => new Date(ms).toISOString());

function ahead(timing: ScheduleTiming, from: string, count: number): string[] {
  const instants = dueInstants(timing);
  const found: number[] = [];
  for (let last = at(from), next = instants.next(last); next !== undefined && found.length < count; ) {
    found.push(next);
    last = next;
    next = instants.next(last);
  }
  return iso(found);
}

function back(instants: DueInstants, from: number, after: number): number[] {
  const found: number[] = [];
  for (const due of instants.back(from)) {
    if (due <= after) break;
    found.push(due);
  }
  return found;
}

describe("daylight saving in Berlin", () => {
  const berlin = (cron: string) => ({ cron, timezone: "Europe/Berlin" });

  test("what is due in the hour that a day does not have is due when it is over", () => {
    expect(ahead(berlin("30 2 * * *"), "2026-03-28T00:00:00Z", 3)).toEqual([
      "2026-03-28T01:30:00.000Z",
      "2026-03-29T01:00:00.000Z",
      "2026-03-30T00:30:00.000Z",
    ]);
  });

  test("what is due once a day is due once on the day that has its hour twice", () => {
    expect(ahead(berlin("30 2 * * *"), "2026-10-24T12:00:00Z", 2)).toEqual([
      "2026-10-25T00:30:00.000Z",
      "2026-10-26T01:30:00.000Z",
    ]);
  });

  test("what is due every hour is due every hour that passes", () => {
    expect(ahead(berlin("0 * * * *"), "2026-03-28T23:30:00Z", 3)).toEqual([
      "2026-03-29T00:00:00.000Z",
      "2026-03-29T01:00:00.000Z",
      "2026-03-29T02:00:00.000Z",
    ]);
    expect(ahead(berlin("0 * * * *"), "2026-10-24T23:30:00Z", 3)).toEqual([
      "2026-10-25T00:00:00.000Z",
      "2026-10-25T01:00:00.000Z",
      "2026-10-25T02:00:00.000Z",
    ]);
  });

  test.each(["30 2 * * *", "0 * * * *", "*/30 2 * * *", "15,45 1-3 * * *"])(
    "looking back finds the instants of %s that looking ahead finds",
    (cron) => {
      const instants = dueInstants(berlin(cron));
      for (const [from, to] of [
        ["2026-03-27T00:00:00Z", "2026-03-31T00:00:00Z"],
        ["2026-10-23T00:00:00Z", "2026-10-27T00:00:00Z"],
      ] as const) {
        const forward = ahead(berlin(cron), from, 500).filter((due) => due <= to);
        expect(iso(back(instants, at(to), at(from)).reverse())).toEqual(forward);
      }
    },
  );
});

test("seconds come first in a cron expression of six fields", () => {
  expect(ahead({ cron: "*/20 * * * * *", timezone: "UTC" }, "2026-01-01T00:00:00.500Z", 3)).toEqual([
    "2026-01-01T00:00:20.000Z",
    "2026-01-01T00:00:40.000Z",
    "2026-01-01T00:01:00.000Z",
  ]);
});

test("an instant that is now is among those up to now, and not among those after", () => {
  const noon = at("2026-01-01T12:00:00Z");
  for (const timing of [
    { cron: "0 12 * * *", timezone: "UTC" },
    { at: "2026-01-01T12:00:00.000Z" },
    { everyMs: 3_600_000 },
  ] satisfies ScheduleTiming[]) {
    const instants = dueInstants(timing);
    expect(instants.back(noon).next().value).toBe(noon);
    expect(instants.back(noon - 1).next().value).not.toBe(noon);
    expect(instants.next(noon)).not.toBe(noon);
    expect(instants.next(noon - 1)).toBe(noon);
  }
});

test("every daemon counts the multiples of a duration from 1970, whenever it starts", () => {
  expect(ahead({ everyMs: 90_000 }, "1970-01-01T00:01:00Z", 3)).toEqual([
    "1970-01-01T00:01:30.000Z",
    "1970-01-01T00:03:00.000Z",
    "1970-01-01T00:04:30.000Z",
  ]);
});

test("a timing is the same where it is due at the same instants, whatever else is said", () => {
  const nightly = { cron: "0 3 * * *", timezone: "UTC" };
  expect(sameTiming(nightly, { ...nightly, missed: "all" } as ScheduleTiming)).toBe(true);
  expect(sameTiming(nightly, { ...nightly, timezone: "Europe/Berlin" })).toBe(false);
  expect(sameTiming(nightly, { everyMs: 1_000 })).toBe(false);
});

describe("of the instants that have come", () => {
  const instants = dueInstants({ everyMs: 1_000 });
  const times = { throughMs: 10_000, nowMs: 15_500, watchedMs: 13_000 };

  test("those somebody was there for are all made up for, whatever is said of missed ones", () => {
    for (const policy of ["once", "skip", "all"] as const) {
      expect(dueNow(instants, { ...times, watchedMs: 10_500 }, policy)).toEqual({
        fire: [11_000, 12_000, 13_000, 14_000, 15_000],
      });
    }
  });

  test("missed ones lead to one run, to none, or to one each", () => {
    expect(dueNow(instants, times, "once")).toEqual({ fire: [12_000, 13_000, 14_000, 15_000] });
    expect(dueNow(instants, times, "skip")).toEqual({ fire: [13_000, 14_000, 15_000], missed: 12_000 });
    expect(dueNow(instants, times, "all")).toEqual({ fire: [11_000, 12_000, 13_000, 14_000, 15_000] });
  });

  test("all that were missed are the newest thousand", () => {
    const { fire } = dueNow(instants, { throughMs: 0, nowMs: 3_600_000, watchedMs: 3_600_000 }, "all");
    expect(fire).toHaveLength(MOST_AT_ONCE);
    expect(fire.at(0)).toBe(3_600_000 - (MOST_AT_ONCE - 1) * 1_000);
    expect(fire.at(-1)).toBe(3_600_000);
  });

  test("none is there where the clock was set back behind what is decided", () => {
    expect(dueNow(instants, { throughMs: 20_000, nowMs: 15_500, watchedMs: 0 }, "all")).toEqual({ fire: [] });
  });
});
