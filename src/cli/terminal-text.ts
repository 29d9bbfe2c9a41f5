/** Text for a terminal: harmless, and as wide as it should be. */
import { stripVTControlCharacters } from "node:util";

/** Everything that drives a terminal instead of showing something, but for line feeds and tabs. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
/** Shown two columns wide: East Asian scripts, full-width forms and emoji. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|\ufe0f/u;

const graphemes = new Intl.Segmenter();

/** What somebody else wrote (a model, a tool, a caller), so that it cannot take over the terminal. */
export function harmless(text: string): string {
  return stripVTControlCharacters(text).replace(CONTROL, "");
}

/** The same on one line, with single spaces. */
export function oneLine(text: string): string {
  return harmless(text).replace(/\s+/g, " ").trim();
}

/** Columns the text takes; colours take none. */
export function widthOf(text: string): number {
  let width = 0;
  for (const { segment } of graphemes.segment(stripVTControlCharacters(text))) width += widthOfGrapheme(segment);
  return width;
}

/** The start of a plain text that fits into `columns`; "…" shows that it was cut. */
export function cut(text: string, columns: number): string {
  // A code unit is never wider than two columns, so the rest cannot matter.
  const parts = [...graphemes.segment(text.slice(0, columns * 16))].map(({ segment }) => segment);
  let width = 0;
  for (const [index, part] of parts.entries()) {
    width += widthOfGrapheme(part);
    if (width > columns) return `${fitting(parts.slice(0, index), columns - 1)}…`;
  }
  return parts.join("");
}

/** Pads to `columns` on the right. */
export function pad(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - widthOf(text)));
}

function fitting(parts: string[], columns: number): string {
  while (parts.reduce((sum, part) => sum + widthOfGrapheme(part), 0) > columns) parts.pop();
  return parts.join("");
}

function widthOfGrapheme(grapheme: string): number {
  return WIDE.test(grapheme) ? 2 : 1;
}
