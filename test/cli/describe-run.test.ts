import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { describeRun } from "../../src/cli/describe-run.ts";
import { applyEvents } from "../../src/workflows/run-record.ts";
import { eventsOf } from "../helpers/run-events.ts";

test("a run that took a branch shows which steps were skipped and why, and without which it went on", () => {
  const make = eventsOf("r1");
  const error = { code: "declined", message: "no money" };
  const run = applyEvents(undefined, [
    ...make.open({}, { steps: 3 }),
    make.next({ type: "step.started", data: { step: "charge", agent: "cashier" } }),
    make.next({ type: "step.failed", data: { step: "charge", taskId: "charge-1", error, continued: true } }),
    make.next({ type: "step.skipped", data: { step: "ship", agent: "shipper", reason: "needs all: charge failed" } }),
  ]);
  const text = stripVTControlCharacters(describeRun(run));
  expect(text).toMatch(/progress +2 of 3 steps/);
  expect(text).toMatch(/charge +cashier +failed, went on +1\.0 s +no money/);
  expect(text).toMatch(/ship +shipper +skipped +needs all: charge failed/);
});

test("a run that was undone shows what was and what was not", () => {
  const make = eventsOf("r1");
  const error = { code: "gone", message: "no such booking" };
  const run = applyEvents(undefined, [
    ...make.open({}, { steps: 2 }),
    make.next({ type: "run.failing", data: { error: { code: "declined", message: "no money" } } }),
    make.next({ type: "compensation.started", data: { step: "hotel", agent: "clerk" } }),
    make.next({ type: "compensation.failed", data: { step: "hotel", taskId: "hotel/compensate-1", error } }),
    make.next({ type: "compensation.started", data: { step: "flight", agent: "clerk" } }),
    make.next({ type: "compensation.abandoned", data: { steps: ["flight", "visa"] } }),
  ]);
  const text = stripVTControlCharacters(describeRun(run));
  expect(text).toMatch(/status +failing/);
  expect(text).toMatch(/UNDOES +AGENT +STATUS/);
  expect(text).toMatch(/hotel +clerk +failed +1\.0 s +no such booking/);
  expect(text).toMatch(/flight +clerk +abandoned/);
  expect(text).toMatch(/visa +abandoned/);
});
