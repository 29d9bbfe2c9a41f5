/** The real receiver, with a switch for what collectors do to their clients and with waiting on conditions. */
import { type OtlpReceiver, startOtlpReceiver } from "../../src/tracing/otlp-receiver.ts";
import type { PlainSpan } from "../../src/tracing/plain-span.ts";

export type TestReceiver = OtlpReceiver & {
  /** From now on: takes everything, refuses with a status, or never answers. */
  behave(as: "accept" | "hang" | { refuse: number }): void;
  /** Resolves with the first value of `condition` that is not false, looked at after each request; fails after 10 s. */
  until<T>(condition: (spans: readonly PlainSpan[]) => T | false): Promise<T>;
  /** Resolves once this many requests were seen. */
  untilRequests(count: number): Promise<void>;
};

/** Starts a receiver on a free loopback port, or on `port` to play one that comes back. */
export async function startTestReceiver(port = 0): Promise<TestReceiver> {
  let behaviour: "accept" | "hang" | { refuse: number } = "accept";
  const looking = new Set<() => void>();
  const look = () => {
    for (const check of [...looking]) check();
  };
  const receiver = await startOtlpReceiver({
    port,
    admit: () => {
      queueMicrotask(look);
      if (behaviour === "accept") return undefined;
      return behaviour === "hang" ? "hang" : behaviour.refuse;
    },
    onSpans: look,
  });

  function until<T>(condition: (spans: readonly PlainSpan[]) => T | false): Promise<T> {
    return new Promise((resolve, reject) => {
      const giveUp = setTimeout(() => {
        looking.delete(check);
        const names = receiver.spans.map(({ name }) => name).join(", ");
        reject(
          new Error(
            `the receiver saw ${receiver.requests} requests with ${names || "no spans"}, not what was expected`,
          ),
        );
      }, 10_000);
      const check = () => {
        const value = condition(receiver.spans);
        if (value === false) return;
        clearTimeout(giveUp);
        looking.delete(check);
        resolve(value);
      };
      looking.add(check);
      check();
    });
  }

  return Object.defineProperties(
    {
      behave(as: typeof behaviour) {
        behaviour = as;
      },
      until,
      untilRequests: (count: number) => until(() => receiver.requests >= count && true).then(() => {}),
    },
    Object.getOwnPropertyDescriptors(receiver),
  ) as TestReceiver;
}
