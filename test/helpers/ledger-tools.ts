/** Tools that write what they do into the file `LEDGER`, one line for each payment that was really made. */
import { appendFile, readFile } from "node:fs/promises";
import { z } from "zod";
import { defineTool, type ToolContext } from "../../src/index.ts";

const LEDGER = process.env.LEDGER ?? "";

async function pay({ what }: { what: string }, { idempotencyKey, signal }: ToolContext): Promise<string> {
  await appendFile(LEDGER, `${idempotencyKey} ${what}\n`);
  if (process.env.HANG) await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  return `paid ${what}`;
}

const about = {
  description: "Pays.",
  parameters: z.object({ what: z.string() }),
  effect: "once",
  execute: pay,
} as const;

/** Nobody can be asked what became of a payment. */
export const pay_blindly = defineTool({ ...about, name: "pay_blindly" });

/** The ledger can be asked. */
export const pay_by_ledger = defineTool({
  ...about,
  name: "pay_by_ledger",
  async onUnknown({ what }, { idempotencyKey }) {
    const made = (await readFile(LEDGER, "utf8").catch(() => "")).includes(`${idempotencyKey} ${what}\n`);
    return made ? { done: true, result: `paid ${what}, says the ledger` } : { done: false };
  },
});

/** Somebody has to look. */
export const pay_or_stop = defineTool({ ...about, name: "pay_or_stop", onUnknown: "stop" });
