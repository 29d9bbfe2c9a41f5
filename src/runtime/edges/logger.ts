/** The daemon's own log: JSON lines for machines, one readable line each for people. */
import pino, { type Logger } from "pino";
import pretty from "pino-pretty";
import type { ResolvedOptions } from "../config/options.ts";

/** Opens a logger on stdout. `auto` is pretty on a terminal. */
export function openLogger({ logLevel, logFormat }: Pick<ResolvedOptions, "logLevel" | "logFormat">): Logger {
  const readable = logFormat === "pretty" || (logFormat === "auto" && process.stdout.isTTY);
  const settings = { level: logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime };
  if (!readable) return pino({ ...settings, formatters: { level: (label) => ({ level: label }) } });
  // In this thread and at once: a line that explains why the process ends must not stay behind in another.
  return pino(
    settings,
    pretty({ sync: true, singleLine: true, translateTime: "SYS:HH:MM:ss.l", colorize: wantsColour() }),
  );
}

function wantsColour(): boolean {
  return process.stdout.isTTY && !process.env.NO_COLOR;
}
