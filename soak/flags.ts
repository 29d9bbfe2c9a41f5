/** The command line of the soak. */
import { parseArgs } from "node:util";

export const USAGE = `usage: npm run soak -- [options]

  --minutes N    how long the storm lasts (default 2)
  --seed S       what everything random is made from, a whole number (default: another one every time)
  --daemons N    how many daemons (default 3)
  --rate N       requests in a second, on average (default 4)
  --json FILE    write the figures
`;

export type Flags = { minutes: number; seed: number; daemons: number; rate: number; json?: string; help: boolean };

const OPTIONS = {
  minutes: { type: "string", default: "2" },
  seed: { type: "string" },
  daemons: { type: "string", default: "3" },
  rate: { type: "string", default: "4" },
  json: { type: "string" },
  help: { type: "boolean", short: "h", default: false },
} as const;

/** Reads the command line. @throws Error that says which flag is wrong and what was expected. */
export function readFlags(args: readonly string[], now: number): Flags {
  const { values } = parseArgs({ args: [...args], options: OPTIONS });
  const { json, help } = values;
  return {
    minutes: number("--minutes", values.minutes, { least: 0.1 }),
    seed: number("--seed", values.seed ?? now % 1_000_000, { least: 0, whole: true }),
    daemons: number("--daemons", values.daemons, { least: 1, whole: true }),
    rate: number("--rate", values.rate, { least: 0.1 }),
    ...(json !== undefined && { json }),
    help,
  };
}

function number(flag: string, text: string | number, { least, whole = false }: { least: number; whole?: boolean }) {
  const value = Number(text);
  if (value >= least && Number.isFinite(value) && (!whole || Number.isInteger(value))) return value;
  throw new Error(`${flag}: expected a ${whole ? "whole " : ""}number from ${least}, got ${JSON.stringify(text)}`);
}
