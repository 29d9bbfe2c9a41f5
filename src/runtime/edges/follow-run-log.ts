/** The lines of a run's log: those that are kept, and on request those to come, to the run's end. */
import { NotFoundError, UnavailableError } from "../../errors.ts";
import type { LogLine } from "../hosts/run-logs.ts";
import type { NatsConnection } from "../nats/nats.ts";
import { withinTime } from "../within-time.ts";
import type { RunLogPage } from "./run-log-pages.ts";

export type FollowRunLogOptions = {
  nc: NatsConnection;
  /** The live feed's subject of the run's log. */
  subject: string;
  follow: boolean;
  signal: AbortSignal | undefined;
  page(from: number): Promise<RunLogPage>;
  /** Resolves when the run is over. */
  ended(signal: AbortSignal): Promise<unknown>;
  /** Whether a run the API does not know may still come. */
  mayCome(): boolean;
};

// The live feed only says sooner that there is more.
const LOOK_EVERY_MS = 1_000;

/** Gives each line once, in the order they were stored. A connection that is lost for a while loses none. */
export async function* followRunLog(options: FollowRunLogOptions): AsyncGenerator<LogLine, void, undefined> {
  const { nc, subject, follow } = options;
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  /** What has come since the last look. */
  let news = Promise.withResolvers<void>();
  let isOver = false;
  const subscription = follow ? nc.subscribe(subject, { callback: () => news.resolve() }) : undefined;
  const over = () => {
    isOver = true;
    news.resolve();
  };
  if (follow) options.ended(signal).then(over, over);
  signal.addEventListener("abort", () => news.resolve());

  try {
    for (let from = 1; ; ) {
      signal.throwIfAborted();
      // Asked before the page, so that the last one is read after the end.
      const isLast = isOver;
      news = Promise.withResolvers();
      const page = await readPage(from);
      if (page) {
        yield* page.lines;
        from = page.next;
        if (page.more) continue;
      }
      if (!follow || isLast) return;
      if (!isOver) await withinTime(news.promise, LOOK_EVERY_MS);
    }
  } finally {
    subscription?.unsubscribe();
    stop.abort();
  }

  async function readPage(from: number): Promise<RunLogPage | undefined> {
    try {
      return await options.page(from);
    } catch (error) {
      const notYet = error instanceof NotFoundError && options.mayCome();
      if (!follow || !(notYet || error instanceof UnavailableError)) throw error;
      return undefined;
    }
  }
}
