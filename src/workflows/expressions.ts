/** The one expression language, CEL: compiled once, checked when loaded, and every result a JSON value. */
import { type ASTNode, Environment, Optional, type ParseResult } from "@marcbachmann/cel-js";
import { TroupeError } from "../errors.ts";

/** How a step has ended: all that steps after it can see of it. */
export type StepEnd =
  /** `exhausted` is there for steps that repeat: whether the last iteration was the last allowed, and not yet what was wanted. */
  | { readonly status: "completed"; readonly output: unknown; readonly exhausted?: boolean }
  | { readonly status: "failed"; readonly error: { readonly code: string; readonly message: string } }
  | { readonly status: "skipped" };

/** What there is to speak of inside of `forEach` and `repeat`. */
export type LoopScope = {
  /** The item of the nearest `forEach`. */
  item?: unknown;
  /** Of the nearest item or iteration, from 0; an integer of CEL. */
  index?: bigint;
  /** What the iteration before gave, null in the first. */
  last?: unknown;
  /** What the iteration gave, for `until`; of a step that is undone what that gave. */
  output?: unknown;
};

/** What expressions can speak of. */
export type ExpressionScope = LoopScope & {
  /** The run's input. */
  input: unknown;
  /** The steps that have ended. */
  steps: { readonly [id: string]: StepEnd };
  /** The step before; after several, `output` holds by id those of the completed ones. Absent for a first step. */
  previous?: StepEnd | { readonly output: unknown };
  session: unknown;
  run: { id: string; workflow: string };
  /** What the run failed with, or was cancelled with. Only once it has. */
  error?: FailureInScope;
};

/** `step` is the one the run failed at, null where it was none. */
export type FailureInScope = { readonly code: string; readonly message: string; readonly step: string | null };

const VARIABLES = ["input", "steps", "previous", "session", "run"] as const;

/** Variables that are there only inside of `forEach` and `repeat`, or where a failure is dealt with. */
const LOCAL_VARIABLES = ["item", "index", "last", "output", "error"] as const;

export type LocalVariable = (typeof LOCAL_VARIABLES)[number];

/** A compiled expression and what it speaks of. */
export type Expression = {
  source: string;
  /** Steps it names, each once. `steps[<something computed>]` is not among them. */
  steps: readonly string[];
  usesPrevious: boolean;
  /** Whether it may look at any step: `steps[<something computed>]`, `steps` as a whole. */
  usesAnyStep: boolean;
  /** Variables it names that are not in every scope, each once. */
  locals: readonly LocalVariable[];
  /** The type of its value as CEL names it; `dyn` where only running it tells. */
  type: string;
  run: ParseResult;
};

const environment = createEnvironment();

function createEnvironment(): Environment {
  const made = new Environment({ homogeneousAggregateLiterals: false, enableOptionalTypes: true });
  for (const name of [...VARIABLES, ...LOCAL_VARIABLES]) made.registerVariable(name, "dyn");
  // JSON has one kind of number, CEL has two and does not mix them: without these, `input.count + 1` fails.
  const operators: [string, (a: number, b: number) => number][] = [
    ["+", (a, b) => a + b],
    ["-", (a, b) => a - b],
    ["*", (a, b) => a * b],
    ["/", (a, b) => a / b],
  ];
  for (const [sign, operate] of operators) {
    made.registerOperator(`double ${sign} int`, (a: number, b: bigint) => operate(a, Number(b)));
    made.registerOperator(`int ${sign} double`, (a: bigint, b: number) => operate(Number(a), b));
  }
  return made;
}

/** Definitions share expressions and are loaded again on change; beyond this many the oldest goes. */
const CACHE_SIZE = 2_000;
const cache = new Map<string, Expression>();

/**
 * Compiles an expression.
 *
 * @throws TroupeError `invalid_expression` when it cannot be parsed or cannot have a type.
 */
export function compileExpression(source: string): Expression {
  const known = cache.get(source);
  if (known) return known;
  const made = compile(source);
  if (cache.size >= CACHE_SIZE) cache.delete(cache.keys().next().value as string);
  cache.set(source, made);
  return made;
}

function compile(source: string): Expression {
  const run = parse(source);
  const { valid, error, type = "dyn" } = run.check();
  if (!valid) throw new TroupeError("invalid_expression", summaryOf(error));
  const found: Found = { steps: new Set(), usesPrevious: false, usesAnyStep: false, locals: new Set() };
  collect(run.ast, found, []);
  const locals = LOCAL_VARIABLES.filter((name) => found.locals.has(name));
  return { source, run, type, ...found, steps: [...found.steps], locals };
}

function parse(source: string): ParseResult {
  try {
    return environment.parse(source);
  } catch (error) {
    throw new TroupeError("invalid_expression", summaryOf(error), { cause: error });
  }
}

type Found = { steps: Set<string>; usesPrevious: boolean; usesAnyStep: boolean; locals: Set<string> };

/** Macros that give their first argument, a name, to the others. */
const BINDING = new Set(["map", "filter", "all", "exists", "exists_one", "optMap", "optFlatMap"]);

/**
 * Finds what an expression speaks of: `steps.a`, `steps["a"]`, `previous`, `steps` in any other way, and the variables of
 * loops. `bound` are names that mean something of its own, as `item` in `input.list.map(item, item.x)`.
 */
function collect(node: unknown, found: Found, bound: readonly string[]): void {
  if (Array.isArray(node)) {
    for (const part of node) collect(part, found, bound);
    return;
  }
  if (!isNode(node)) return;
  if (node.op === "rcall" && BINDING.has(node.args[0])) {
    const [, receiver, [variable, ...rest]] = node.args;
    collect(receiver, found, bound);
    if (variable?.op === "id") collect(rest, found, [...bound, variable.args]);
    else collect([variable, ...rest], found, bound);
    return;
  }
  const step = namedStep(node);
  if (step !== undefined) {
    found.steps.add(step);
    return;
  }
  if (node.op === "id" && node.args === "previous") found.usesPrevious = true;
  if (node.op === "id" && node.args === "steps") found.usesAnyStep = true;
  if (node.op === "id" && !bound.includes(node.args)) found.locals.add(node.args);
  collect(node.args, found, bound);
}

function namedStep({ op, args }: ASTNode): string | undefined {
  if (op !== "." && op !== ".?" && op !== "[]" && op !== "[?]") return undefined;
  const [object, key] = args;
  if (object.op !== "id" || object.args !== "steps") return undefined;
  if (typeof key === "string") return key;
  return key.op === "value" && typeof key.args === "string" ? key.args : undefined;
}

function isNode(value: unknown): value is ASTNode {
  return typeof value === "object" && value !== null && "op" in value && "args" in value;
}

/**
 * Evaluates an expression.
 *
 * @throws TroupeError `template_failed` when a value is missing, an operation fails, or the result is not JSON.
 */
export function evaluateExpression(expression: Expression, scope: ExpressionScope): unknown {
  let result: unknown;
  try {
    result = expression.run(scope);
  } catch (error) {
    throw new TroupeError("template_failed", summaryOf(error), { cause: error });
  }
  return toJson(result);
}

/** The library's message proper, without its drawing of the source. */
function summaryOf(error: unknown): string {
  const { summary, message } = error as { summary?: string; message?: string };
  return summary ?? message?.split("\n", 1)[0] ?? String(error);
}

/** CEL knows more kinds of values than JSON: 64-bit integers, instants, durations, optionals. */
function toJson(value: unknown): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      if (Number.isFinite(value)) return value;
      break;
    case "bigint":
      if (BigInt(Number(value)) === value) return Number(value);
      break;
    case "object":
      return objectToJson(value);
    default:
      break;
  }
  throw new TroupeError("template_failed", `${String(value)} is not a value JSON can hold`);
}

function objectToJson(value: object | null): unknown {
  if (value === null) return null;
  if (Array.isArray(value)) return value.map(toJson);
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Map) return entriesToJson([...value]);
  if (value instanceof Optional) {
    if (value.hasValue()) return toJson(value.value());
    throw new TroupeError("template_failed", "the optional has no value; give one with orValue(…)");
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return entriesToJson(Object.entries(value));
  return specialToJson(value);
}

function entriesToJson(entries: [unknown, unknown][]): unknown {
  return Object.fromEntries(
    entries.filter(([, item]) => item !== undefined).map(([key, item]) => [String(key), toJson(item)]),
  );
}

/** Unsigned integers and durations are classes the library does not show; they are known by what they hold. */
function specialToJson(value: object): unknown {
  if ("seconds" in value && "nanos" in value) return `${Number(value.seconds) + Number(value.nanos) / 1e9}s`;
  const primitive: unknown = value.valueOf();
  if (typeof primitive === "bigint") return toJson(primitive);
  throw new TroupeError("template_failed", "the result is not a value JSON can hold");
}
