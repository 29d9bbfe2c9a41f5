/** Conditions: CEL expressions that are true or false, checked when they are loaded as far as their types are known. */
import { placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import { DefinitionError, type Problem, TroupeError } from "../errors.ts";
import { compileExpression, type Expression, type ExpressionScope, evaluateExpression } from "./expressions.ts";
import { hint, type TemplateContext, unknownReferences } from "./templates.ts";

/** A condition ready to be evaluated any number of times. */
export type Condition = { path: string; expression: Expression };

/**
 * Compiles a condition and checks what it refers to.
 *
 * @throws DefinitionError with every mistake in it.
 */
export function compileCondition(source: string, context: TemplateContext): Condition {
  const expression = compileSource(source, context);
  check(expression, context, { type: "bool", expected: "an expression that is true or false" });
  return { path: context.path, expression };
}

/**
 * Compiles the expression a `forEach` goes by.
 *
 * @throws DefinitionError with every mistake in it.
 */
export function compileList(source: string, context: TemplateContext): Condition {
  const expression = compileSource(source, context);
  check(expression, context, { type: "list", expected: "an expression whose value is a list" });
  return { path: context.path, expression };
}

/**
 * The items of the list.
 *
 * @throws TroupeError `bad_list`, saying where it stands and what came, when it has no value or is no list.
 */
export function itemsOf({ path, expression }: Condition, scope: ExpressionScope): readonly unknown[] {
  const bad = (got: string, cause?: unknown) =>
    new TroupeError("bad_list", `${path}: expected ${expression.source} to be a list, got: ${got}`, { cause });
  let value: unknown;
  try {
    value = evaluateExpression(expression, scope);
  } catch (error) {
    throw bad(error instanceof Error ? error.message : String(error), error);
  }
  if (!Array.isArray(value)) throw bad(showValue(value));
  return value;
}

/**
 * Checks the expression a switch goes by.
 *
 * @throws DefinitionError with every mistake in it.
 */
export function checkSwitch(source: string, context: TemplateContext): void {
  const expression = compileSource(source, context);
  if (expression.usesPrevious) {
    // It is evaluated for each of the steps it leads to, and these may have come after others as well.
    const expected = "a step by its id, as `previous` is not the same for all that a switch leads to";
    throw new DefinitionError([problemAt(placeAt(context), expected, showValue(source))]);
  }
  check(expression, context, { type: "string", expected: "an expression whose value is text" });
}

function check(
  expression: Expression,
  context: TemplateContext,
  { type, expected }: { type: string; expected: string },
) {
  const problems: Problem[] = unknownReferences(expression, context);
  // A list says of what: `list<int>`.
  if (expression.type.replace(/<.*/s, "") !== type && expression.type !== "dyn") {
    const got = `${showValue(expression.source)}, which is ${expression.type}`;
    problems.push(problemAt(placeAt(context), expected, got));
  }
  if (problems.length > 0) throw new DefinitionError(problems);
}

function compileSource(source: string, context: TemplateContext): Expression {
  try {
    return compileExpression(source);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const braces = source.includes("{{") ? " without {{ }}" : "";
    const expected = `a CEL expression${braces}${hint(source, context.steps)}`;
    throw new DefinitionError([problemAt(placeAt(context), expected, `${showValue(source)}: ${why}`)]);
  }
}

/**
 * Whether the condition holds.
 *
 * @throws TroupeError `condition_failed`, saying where it stands and what came, when it has no value or is no boolean.
 */
export function holds({ path, expression }: Condition, scope: ExpressionScope): boolean {
  const value = evaluated(path, expression, scope);
  if (typeof value === "boolean") return value;
  throw failed(path, expression, showValue(value));
}

function evaluated(path: string, expression: Expression, scope: ExpressionScope): unknown {
  try {
    return evaluateExpression(expression, scope);
  } catch (error) {
    throw failed(path, expression, error instanceof Error ? error.message : String(error), error);
  }
}

function failed(path: string, { source }: Expression, got: string, cause?: unknown): TroupeError {
  const message = `${path}: expected ${source} to be true or false, got: ${got}`;
  return new TroupeError("condition_failed", message, cause === undefined ? {} : { cause });
}
