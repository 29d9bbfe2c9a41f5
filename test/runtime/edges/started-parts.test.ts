import { pino } from "pino";
import { expect, test } from "vitest";
import { keepStartedParts } from "../../../src/runtime/edges/started-parts.ts";

const logger = pino({ level: "silent" });

function partsNamed(...names: string[]) {
  const started = keepStartedParts(logger);
  const stopped: string[] = [];
  const parts = names.map((name) => started.add({ name }, (part) => stopped.push(part.name)));
  return { started, stopped, parts };
}

test("everything is stopped in the reverse of how it started", async () => {
  const { started, stopped } = partsNamed("first", "second", "third");
  await started.stopAll();
  expect(stopped).toEqual(["third", "second", "first"]);
});

test("a part that was stopped before is not stopped again", async () => {
  const { started, stopped, parts } = partsNamed("first", "second", "third");
  await started.stop(parts[1] as object);
  await Promise.all([started.stop(parts[1] as object), started.stopAll()]);
  await started.stopAll();
  expect(stopped).toEqual(["second", "third", "first"]);
});

test("a part that fails to stop or never does keeps no other running", async () => {
  const { started, stopped } = partsNamed("first");
  started.add({}, () => Promise.reject(new Error("no")));
  started.add({}, () => new Promise(() => {}), 10);
  started.add({}, () => {
    throw new Error("not at all");
  });
  await started.stopAll();
  expect(stopped).toEqual(["first"]);
});

test("whoever asks for a part that is just stopping waits for it", async () => {
  const started = keepStartedParts(logger);
  let end = () => {};
  const part = started.add({}, () => new Promise<void>((resolve) => (end = resolve)));
  const order: string[] = [];
  const all = [started.stop(part), started.stop(part), started.stopAll()].map((stop, i) =>
    stop.then(() => order.push(`answered ${i}`)),
  );
  order.push("ended");
  end();
  await Promise.all(all);
  expect(order[0]).toBe("ended");
  expect(order).toHaveLength(4);
});
