import { expect, test } from "vitest";
import { ModelError } from "../../../src/errors.ts";
import { Breaker } from "../../../src/runtime/models/breaker.ts";
import { until } from "../../helpers/until.ts";

const error = (code: string, retryAfterMs?: number) =>
  new ModelError(code, `it said ${code}`, { retryable: true, ...(retryAfterMs !== undefined && { retryAfterMs }) });
const down = error("provider_unavailable");

function failing(breaker: Breaker, ...errors: unknown[]) {
  for (const each of errors) breaker.end(breaker.begin() ?? "go", each);
}

test("so many failures in a row open it, and an answer between them begins anew", () => {
  const breaker = new Breaker({ failures: 3, cooldownMs: 60_000 });
  failing(breaker, down, down);
  breaker.end("go");
  failing(breaker, down, error("connection_failed"));
  expect(breaker.ready).toBe(true);
  failing(breaker, error("provider_timeout"));
  expect(breaker.ready).toBe(false);
  expect(breaker.begin()).toBeUndefined();
  expect(breaker.reason).toBe("it said provider_timeout");
});

test.each(["bad_request", "unauthorized", "rate_limited", "context_length_exceeded"])(
  "%s is said by a provider that works",
  (code) => {
    const breaker = new Breaker({ failures: 2, cooldownMs: 60_000 });
    failing(breaker, down, error(code), down);
    expect(breaker.ready).toBe(true);
  },
);

test.each<[string, unknown]>([
  ["a cut stream", error("stream_cut")],
  ["an error of another kind", new Error("aborted")],
])("%s says nothing about the provider", (_, what) => {
  const breaker = new Breaker({ failures: 2, cooldownMs: 60_000 });
  failing(breaker, down, what, down);
  expect(breaker.ready).toBe(false);
});

test("one that asks for a long pause is not asked again before it is over", () => {
  const breaker = new Breaker({ failures: 5, cooldownMs: 1 });
  failing(breaker, error("rate_limited", 60_000));
  expect(breaker.ready).toBe(true);
  failing(breaker, error("rate_limited", 60_001));
  expect(breaker.ready).toBe(false);
});

test("after its time one call goes through, and its answer closes it", async () => {
  const breaker = new Breaker({ failures: 1, cooldownMs: 10 });
  failing(breaker, down);
  await until("it is half-open", () => breaker.ready);
  expect(breaker.begin()).toBe("probe");
  expect(breaker.begin()).toBeUndefined();
  breaker.end("probe");
  expect([breaker.begin(), breaker.begin(), breaker.reason]).toEqual(["go", "go", undefined]);
});

test("a probe that fails opens it again, and a probe that says nothing lets another one through", async () => {
  const breaker = new Breaker({ failures: 1, cooldownMs: 10 });
  failing(breaker, down);
  await until("it is half-open", () => breaker.ready);
  failing(breaker, error("stream_cut"));
  expect(breaker.ready).toBe(true);
  // A call that began before it opened is no probe.
  expect(breaker.begin()).toBe("probe");
  breaker.end("go", down);
  expect(breaker.begin()).toBeUndefined();
  breaker.end("probe", error("stream_cut"));
  expect(breaker.begin()).toBe("probe");
  breaker.end("probe", down);
  expect(breaker.ready).toBe(false);
  await until("it is half-open again", () => breaker.ready);
});

test("who waits is woken before watchers hear of it, and watchers hear of every change", async () => {
  const breaker = new Breaker({ failures: 1, cooldownMs: 10 });
  const seen: string[] = [];
  breaker.watch(() => seen.push(breaker.ready ? "ready" : "not ready"));
  failing(breaker, down);
  breaker.wait(() => {
    seen.push("woken");
    breaker.begin();
  });
  await until("the watchers were told", () => seen.length >= 4);
  expect(seen.slice(0, 3)).toEqual(["not ready", "woken", "not ready"]);
  expect(seen).not.toContain("ready");
  breaker.end("probe");
  expect(seen.at(-1)).toBe("ready");
});
