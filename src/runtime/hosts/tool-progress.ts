/** How far a tool is, as often as somebody can follow. */
import type { ToolProgress } from "../../actors/tool.ts";

/** Ten a second move smoothly for an eye, and a tool that reports every row it reads costs no more than that. */
const EVERY_MS = 100;

export type ProgressReport = {
  report(how: string | ToolProgress): void;
  /** Says what is kept back; nothing is said after that. */
  end(): void;
};

/** Passes reports on to `say`: the first at once, then the newest every 100 ms, and the last one. */
export function openProgressReport(say: (progress: ToolProgress) => void): ProgressReport {
  let kept: ToolProgress | undefined;
  let timer: NodeJS.Timeout | undefined;
  let ended = false;

  return {
    report(how) {
      if (ended) return;
      kept = read(how);
      if (!timer) sayKept();
    },
    end() {
      ended = true;
      clearTimeout(timer);
      if (kept) say(kept);
      kept = undefined;
    },
  };

  function sayKept(): void {
    timer = undefined;
    if (!kept) return;
    say(kept);
    kept = undefined;
    timer = setTimeout(sayKept, EVERY_MS);
  }
}

/** A tool may be written in JavaScript, or pass on what a server says. */
function read(how: string | ToolProgress): ToolProgress {
  if (typeof how !== "object" || how === null) return { message: String(how) };
  const { percent, message } = how;
  return {
    ...(typeof percent === "number" && Number.isFinite(percent) && { percent: Math.min(100, Math.max(0, percent)) }),
    ...(message !== undefined && { message: String(message) }),
  };
}
