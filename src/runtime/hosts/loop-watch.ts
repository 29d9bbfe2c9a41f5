/**
 * Notices when this process did not run for a while, and says which tools were at work then: a tool that computes without a
 * pause holds up everything here, beats among it, and other daemons take this one's runs. Nothing is recorded twice for that
 * (fencing, and `standing.ts`), but work is repeated, and only the tool's author can mend it.
 */
import type { Logger } from "pino";

/** A tool that is executed here. */
type ToolAtWork = { tool: string; agent: string; runId: string; taskId: string };

export type LoopWatch = {
  /** Takes note that a tool begins; the answer is called when it ends. */
  begin(tool: ToolAtWork): () => void;
  stop(): void;
};

export type LoopWatchOptions = {
  logger: Logger;
  /** What is worth a warning, in milliseconds. */
  blockedMs: number;
};

const TICK_MS = 100;

/** Starts watching; its timer does not keep the process alive. */
export function watchLoop({ logger, blockedMs }: LoopWatchOptions): LoopWatch {
  /** Tools at work, and those that ended since the last tick. */
  const tools = new Map<object, ToolAtWork & { ended: boolean }>();
  let lastTick = performance.now();
  const timer = setInterval(tick, TICK_MS);
  timer.unref();

  return {
    begin(tool) {
      const entry = { ...tool, ended: false };
      tools.set(entry, entry);
      return () => {
        entry.ended = true;
      };
    },
    stop: () => clearInterval(timer),
  };

  function tick() {
    const gapMs = performance.now() - lastTick - TICK_MS;
    lastTick += gapMs + TICK_MS;
    if (gapMs >= blockedMs) warn(Math.round(gapMs));
    for (const [key, { ended }] of tools) if (ended) tools.delete(key);
  }

  function warn(ms: number) {
    const atWork = [...tools.values()].map(({ ended: _ended, ...tool }) => tool);
    if (atWork.length === 0) {
      logger.warn(
        { blockedMs: ms },
        `this process did not run for ${ms} ms: it was stopped, or its event loop was blocked`,
      );
      return;
    }
    const names = [...new Set(atWork.map(({ tool, agent }) => `${tool} (agent ${agent})`))].join(", ");
    logger.warn(
      { blockedMs: ms, tools: atWork },
      `the event loop was blocked for ${ms} ms; tools at work then: ${names}`,
    );
  }
}
