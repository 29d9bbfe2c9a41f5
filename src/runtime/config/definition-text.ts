/** Definitions as the text of a file. */
import { stringify } from "yaml";
import type { Agent } from "../../actors/agent.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import { type DefinitionFile, exportDefinition } from "../../workflows/export-definition.ts";

export type DefinitionFormat = "yaml" | "json";

/** Renders a file of definitions; a section without entries is left out. */
export function renderDefinitionFile({ agents, workflows }: DefinitionFile, format: DefinitionFormat): string {
  const file = { ...(Object.keys(agents).length > 0 && { agents }), workflows };
  // Aliases would be right, and nobody would read them.
  if (format === "yaml") return stringify(file, { aliasDuplicateObjects: false, lineWidth: 120 });
  return `${JSON.stringify(file, null, 2)}\n`;
}

/**
 * Gives the text of a file with some workflows and those of `agents` that they name; any daemon runs it without their source.
 *
 * @param format @default "yaml"
 * @throws DefinitionError naming every function, and every part of a zod schema that JSON Schema cannot say.
 */
export function toDefinitionFile(
  workflows: WorkflowDefinition | readonly WorkflowDefinition[],
  agents: readonly Agent[] = [],
  format: DefinitionFormat = "yaml",
): string {
  return renderDefinitionFile(exportDefinition(workflows, agents), format);
}
