/** The fingerprint by which a run finds out whether a definition is still the one it was folded with. */
import type { DeterministicDefinition, HandoffDefinition, StepDefinition } from "./definition.ts";

type Unhashed<Definition> = Omit<Definition, "hash">;

/**
 * Hashes everything a fold depends on, as 16 hexadecimal digits. Names, versions, descriptions, schedules and the schema
 * of the input are left out: changing those does not change what a run decides.
 */
export function hashDefinition(definition: Unhashed<DeterministicDefinition> | Unhashed<HandoffDefinition>): string {
  const { name: _name, version: _version, description: _description, input: _input, ...rest } = definition;
  const { schedule: _schedule, ...decisive } = rest;
  return fnv1a64(canonicalJson(withoutWords(decisive)));
}

/** What a model is told about a handoff decides nothing; where it may go does. The kind of a step follows from its keys. */
function withoutWords(decisive: object): object {
  if ("steps" in decisive) {
    const { steps, onFailure } = decisive as Pick<DeterministicDefinition, "steps" | "onFailure">;
    const late = onFailure && { onFailure: onFailure.map(withoutKind) };
    return { ...decisive, steps: steps.map(withoutKind), ...late };
  }
  if (!("agents" in decisive)) return decisive;
  const agents = decisive.agents as HandoffDefinition["agents"];
  const edges = Object.entries(agents).map(([from, options]) => [
    from,
    options.map(({ to, context }) => ({ to, context })),
  ]);
  return { ...decisive, agents: Object.fromEntries(edges) };
}

function withoutKind({ kind: _kind, ...step }: StepDefinition): object {
  return "steps" in step && step.steps ? { ...step, steps: step.steps.map(withoutKind) } : step;
}

/** JSON with its keys in order, so that equal data gives equal text. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(",")}}`;
}

/** FNV-1a, 64 bits, over UTF-16 code units (http://www.isthe.com/chongo/tech/comp/fnv/). It guards against mistakes, not malice. */
export function fnv1a64(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (let i = 0; i < text.length; i++) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(text.charCodeAt(i))) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, "0");
}
