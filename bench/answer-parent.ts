/** The child's side of `start-process.ts`: answers what the benchmark asks over the IPC channel. */
import type { Asked, Told, Usage } from "./start-process.ts";

/** What a child can be asked, by name; `stop` is called before it ends. */
export type Answers = { stop(): unknown; [question: string]: () => unknown };

/** Says that this process is ready, with `ready` for whoever started it, and answers until it is told to stop. */
export function answerParent(ready: unknown, answers: Answers): void {
  // However the benchmark ends, nothing of it stays behind.
  process.once("disconnect", () => process.exit());
  process.on("message", (asked: Asked) => void answer(asked, { usage, ...answers }));
  tell({ type: "ready", value: ready });
}

/** The settings this process was started with. */
export function settingsFromParent<Settings>(): Settings {
  return JSON.parse(process.argv[2] ?? "null") as Settings;
}

async function answer({ id, question }: Asked, answers: { [question: string]: () => unknown }): Promise<void> {
  try {
    const reply = answers[question];
    if (!reply) throw new Error(`expected one of ${Object.keys(answers).join(", ")}, got ${question}`);
    tell({ type: "answer", id, value: await reply() });
  } catch (error) {
    tell({ type: "answer", id, error: String(error) });
  }
  if (question === "stop") process.disconnect();
}

function tell(told: Told): void {
  process.send?.(told);
}

function usage(): Usage {
  const { user, system } = process.cpuUsage();
  return { cpuMs: (user + system) / 1_000, peakMb: process.resourceUsage().maxRSS / 1_024 };
}
