import { describe, expect, test } from "vitest";
import { declareSchedule, nextFiring, pauseDeclared, putSchedule } from "../../../src/runtime/hosts/change-schedule.ts";
import type { Schedule } from "../../../src/workflows/schedule.ts";

const HOUR_MS = 3_600_000;
const NOON = Date.parse("2026-06-01T12:00:00Z");
const at = (ms: number) => new Date(ms).toISOString();
const hourly: Schedule = {
  name: "tick",
  workflow: "report",
  cron: "0 * * * *",
  timezone: "UTC",
  missed: "once",
  overlap: "allow",
};
const paused: Schedule = { ...hourly, paused: true };

describe("a schedule that a daemon declares", () => {
  const kept = declareSchedule(undefined, hourly, NOON);

  test("counts from when it is first seen", () => {
    expect(kept).toEqual({
      v: 1,
      schedule: hourly,
      paused: false,
      declared: true,
      through: at(NOON),
      changedAt: at(NOON),
    });
  });

  test("stays as it is when it is declared again, also where somebody paused it", () => {
    expect(declareSchedule(kept, { ...hourly }, NOON + HOUR_MS)).toBe(kept);
    const stopped = pauseDeclared(kept, paused, NOON);
    expect(stopped).toMatchObject({ paused: true, declared: true, schedule: hourly });
    expect(stopped && declareSchedule(stopped, hourly, NOON + HOUR_MS)).toBe(stopped);
  });

  test("counts from now on where it is back after nobody had it, and never from before", () => {
    const back = { isBack: true };
    expect(declareSchedule(kept, { ...hourly }, NOON + HOUR_MS, back)).toEqual({
      ...kept,
      through: at(NOON + HOUR_MS),
    });
    expect(declareSchedule(kept, { ...hourly, input: 1 }, NOON + HOUR_MS, back).through).toBe(at(NOON + HOUR_MS));
    expect(declareSchedule(kept, hourly, NOON - HOUR_MS, back).through).toBe(at(NOON));
  });

  test("goes on from where it was where only its input changes, and from now on with another timing", () => {
    const input = declareSchedule(kept, { ...hourly, input: 1 }, NOON + HOUR_MS);
    expect(input).toMatchObject({ through: at(NOON), schedule: { input: 1 } });
    const daily = declareSchedule(kept, { ...hourly, cron: "0 0 * * *" }, NOON + HOUR_MS);
    expect(daily.through).toBe(at(NOON + HOUR_MS));
  });

  test("is paused and resumed by its configuration where that says otherwise than before", () => {
    const stopped = declareSchedule(kept, paused, NOON + HOUR_MS);
    expect(stopped.paused).toBe(true);
    expect(declareSchedule(stopped, hourly, NOON + 2 * HOUR_MS)).toMatchObject({
      paused: false,
      through: at(NOON + 2 * HOUR_MS),
    });
  });

  test("lets nobody else change more than whether it is paused", () => {
    expect(pauseDeclared(kept, { ...hourly, input: 1 }, NOON)).toBeUndefined();
    expect(pauseDeclared(kept, { ...hourly, workflow: "other" }, NOON)).toBeUndefined();
  });
});

describe("a schedule that is put", () => {
  const kept = putSchedule(undefined, hourly, NOON);

  test("goes on from where it was while its timing stays", () => {
    const fired = { ...kept, through: at(NOON + HOUR_MS) };
    expect(putSchedule(fired, { ...hourly, missed: "all" }, NOON + 2 * HOUR_MS).through).toBe(at(NOON + HOUR_MS));
  });

  test("counts from now on when it is resumed, also where its clock had run ahead", () => {
    const ahead = { ...putSchedule(kept, paused, NOON), through: at(NOON + 1_000 * HOUR_MS) };
    expect(ahead).toMatchObject({ paused: true, schedule: hourly });
    expect(putSchedule(ahead, hourly, NOON).through).toBe(at(NOON));
  });

  test("is due next after what is decided about and after now, and never while it is paused", () => {
    expect(nextFiring(kept, NOON)).toBe(NOON + HOUR_MS);
    expect(nextFiring({ ...kept, through: at(NOON + HOUR_MS) }, NOON)).toBe(NOON + 2 * HOUR_MS);
    expect(nextFiring(kept, NOON + 10 * HOUR_MS)).toBe(NOON + 11 * HOUR_MS);
    expect(nextFiring(putSchedule(kept, paused, NOON), NOON)).toBeUndefined();
  });
});
