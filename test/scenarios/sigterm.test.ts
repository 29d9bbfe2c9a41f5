import { expect, test } from "vitest";
import { expectWithin } from "../helpers/measured-bound.ts";
import { byRun } from "../helpers/raw-journals.ts";
import { auditRuns } from "../helpers/run-audit.ts";
import { openStage } from "../helpers/stage.ts";
import { numberedIds, requestRuns, runsEnded } from "../helpers/start-runs.ts";
import { checkTraces } from "../helpers/trace-checker.ts";
import { until } from "../helpers/until.ts";

test("SIGTERM under load loses nothing, repeats nothing, and the other daemon has the runs within a second", {
  timeout: 120_000,
}, async () => {
  await using stage = await openStage({
    daemons: 2,
    traced: true,
    options: { maxRuns: 60 },
    model: { delayMs: () => 200 },
  });
  const { daemons, journals, model, collector } = stage;
  const [leaving, staying] = daemons;
  const runIds = numberedIds(200);
  await requestRuns(journals, runIds, ["diamond", "relay"]);
  const { pid, incarnation } = stage.daemon.life;
  await until("calls in flight", () => model.open().filter((call) => call.pid === pid).length > 20);

  const signalled = Date.now();
  leaving?.life.signal("SIGTERM");
  const exit = await leaving?.life.exited;
  const exitedMs = Date.now() - signalled;
  await runsEnded(journals, runIds, 60_000);

  const facts = { runs: await journals.runs(), tasks: await journals.tasks(), calls: model.calls };
  const handedOver = [...byRun(facts.runs).values()].flatMap((entries) => {
    const claims = entries.flatMap(({ value, at }) =>
      value.flatMap((event) => (event.type === "run.claimed" ? [{ at, ...event.data }] : [])),
    );
    const next = claims.findIndex((claim) => claim.incarnation === incarnation) + 1;
    return next > 0 && claims[next] ? [claims[next].at - signalled] : [];
  });
  const audit = auditRuns({ runIds, ...facts });
  console.log(
    `SIGTERM: exit ${exit?.code} after ${exitedMs} ms; ${handedOver.length} runs handed over, the last after ${Math.round(Math.max(...handedOver))} ms; ${audit.repeated} calls repeated`,
  );
  expect(audit.problems).toEqual([]);
  expect(audit.repeated).toBe(0);
  expect(exit).toEqual({ code: 0, signal: null });
  expect(handedOver.length).toBeGreaterThan(10);
  expect(staying?.life.isRunning()).toBe(true);
  await until("whole traces", () => checkTraces(collector.spans, { runIds }).length === 0).catch(() => {});
  expect(checkTraces(collector.spans, { runIds }).slice(0, 20)).toEqual([]);
  expectWithin(1_000, "the last run handed over", Math.max(...handedOver));
});
