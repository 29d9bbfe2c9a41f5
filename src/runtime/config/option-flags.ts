/** The table of options as flags of a command. */
import { type Command, Option as Flag } from "commander";
import { flagOf, OPTION_KEYS, type OptionKey, optionOf } from "./options.ts";

/** Gives a command a flag for each option, or for those named. */
export function addOptionFlags(command: Command, keys: readonly OptionKey[] = OPTION_KEYS): Command {
  for (const key of keys) for (const flag of flagsFor(key)) command.addOption(flag);
  return command;
}

function flagsFor(key: OptionKey): Flag[] {
  const { kind, doc } = optionOf(key);
  const name = flagOf(key);
  if (kind.placeholder) return [new Flag(`${name} <${kind.placeholder}>`, `${plain(doc)}${defaultOf(key)}`)];
  return [new Flag(name, plain(doc)), new Flag(name.replace("--", "--no-"), "The opposite.").hideHelp()];
}

/** What was given on the command line, by the option's key; the command's other flags are left out. */
export function flagsOf(given: { readonly [attribute: string]: unknown }): { [key: string]: unknown } {
  const flags: { [key: string]: unknown } = {};
  for (const key of OPTION_KEYS) {
    const value = given[new Flag(flagOf(key)).attributeName()];
    if (value !== undefined) flags[key] = value;
  }
  return flags;
}

function defaultOf(key: OptionKey): string {
  const { default: fallback, defaultDoc } = optionOf(key);
  if (defaultDoc === undefined && fallback === undefined) return "";
  return ` (default: ${plain(defaultDoc ?? String(fallback))})`;
}

/** Documentation is written with Markdown's backquotes; a terminal shows words. */
function plain(doc: string): string {
  return doc.replaceAll("`", "");
}
