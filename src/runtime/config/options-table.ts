/** The table of options as documentation. */
import { flagOf, OPTION_KEYS, type OptionKey, optionOf, variableOf } from "./options.ts";

/** Renders the table of every option in Markdown, as it stands in `docs/configuration.md`. */
export function renderOptionsTable(): string {
  const rows = OPTION_KEYS.map((key) => `| ${cellsOf(key).join(" | ")} |`);
  return ["| key | flag | variable | type | default | what it is |", "|---|---|---|---|---|---|", ...rows].join("\n");
}

function cellsOf(key: OptionKey): string[] {
  const { kind, doc, alsoEnv } = optionOf(key);
  const variables = [variableOf(key), ...(alsoEnv ? [alsoEnv] : [])];
  return [code(key), code(flagOf(key)), variables.map(code).join(", "), kind.shown, defaultOf(key), doc];
}

function defaultOf(key: OptionKey): string {
  const { default: fallback, defaultDoc } = optionOf(key);
  if (defaultDoc) return defaultDoc;
  return fallback === undefined ? "" : code(String(fallback));
}

function code(word: string): string {
  return `\`${word}\``;
}
