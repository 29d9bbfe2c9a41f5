/** Colours, where there is a terminal that shows them and nobody objects (NO_COLOR). */
import { styleText } from "node:util";
import type { RunStatus } from "../workflows/run-status.ts";

type Format = Parameters<typeof styleText>[0];

/** Colours text for stdout. */
function paint(format: Format, text: string): string {
  return styleText(format, text, { stream: process.stdout });
}

export const bold = (text: string) => paint("bold", text);
export const dim = (text: string) => paint("dim", text);
export const red = (text: string) => paint("red", text);
export const green = (text: string) => paint("green", text);
export const yellow = (text: string) => paint("yellow", text);
export const cyan = (text: string) => paint("cyan", text);

type Painted = RunStatus | "retrying" | "skipped" | "abandoned";

const OF_STATUS: { readonly [Status in Painted]: (text: string) => string } = {
  pending: dim,
  running: cyan,
  waiting: yellow,
  retrying: yellow,
  skipped: dim,
  failing: yellow,
  cancelling: yellow,
  completed: green,
  failed: red,
  cancelled: red,
  abandoned: red,
};

/** A status in its colour. */
export function paintStatus(status: Painted): string {
  return OF_STATUS[status](status);
}
