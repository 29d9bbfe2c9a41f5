/** What is measured: works, and the conditions under which each is. */

export const WORKS = ["W1", "W2", "W3"] as const;
export const MODELS = ["lean", "openai"] as const;
export const DAEMONS = [1, 2] as const;

export type WorkName = (typeof WORKS)[number];
/** `lean` is a `Model` module over a plain socket, `openai` the provider that agents have by default. */
export type ModelName = (typeof MODELS)[number];

export type Case = { work: WorkName; model: ModelName; telemetry: boolean; daemons: number };

/** Which cases to run; what is absent is not restricted. */
export type Selection = { work?: WorkName; model?: ModelName; telemetry?: boolean; daemons?: number; all?: boolean };

const BASE: Case = { work: "W1", model: "lean", telemetry: true, daemons: 1 };

/** Every condition that matters once, each with the rest as in the first. */
const USUAL: readonly Case[] = [
  BASE,
  { ...BASE, work: "W2" },
  { ...BASE, work: "W3" },
  { ...BASE, telemetry: false },
  { ...BASE, model: "openai" },
  { ...BASE, daemons: 2 },
];

/** The cases of a selection: the usual ones, all, or exactly what was asked for with the rest as in the base case. */
export function casesOf({ all = false, ...asked }: Selection): Case[] {
  if (Object.keys(asked).length === 0) return all ? everyCase() : [...USUAL];
  if (!all) return [{ ...BASE, ...asked }];
  return everyCase().filter((one) => matches(one, asked));
}

function everyCase(): Case[] {
  return WORKS.flatMap((work) =>
    MODELS.flatMap((model) =>
      [true, false].flatMap((telemetry) => DAEMONS.map((daemons) => ({ work, model, telemetry, daemons }))),
    ),
  );
}

function matches(one: Case, asked: Omit<Selection, "all">): boolean {
  return Object.entries(asked).every(([key, value]) => one[key as keyof Case] === value);
}

/** A case in a few words, as `W1 lean, telemetry on, 1 daemon`. */
export function nameOf({ work, model, telemetry, daemons }: Case): string {
  return `${work} ${model}, telemetry ${telemetry ? "on" : "off"}, ${daemons} daemon${daemons === 1 ? "" : "s"}`;
}
