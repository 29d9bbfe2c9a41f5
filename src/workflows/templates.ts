/**
 * Templates: JSON in whose strings `{{ CEL }}` stands for a value.
 *
 * A string that is nothing but one `{{ }}` yields the value itself; otherwise text is put in as it is and anything else as
 * JSON. Keys of objects are not templates. To write braces, write them as text: `{{ "{{" }}`.
 */
import { joinPath, type Place, placeAt, problemAt, showValue } from "../actors/schema-problems.ts";
import { DefinitionError, type Problem, TroupeError } from "../errors.ts";
import {
  compileExpression,
  type Expression,
  type ExpressionScope,
  evaluateExpression,
  type LocalVariable,
} from "./expressions.ts";
import type { StepsBefore } from "./step-order.ts";

/** A template ready to be evaluated any number of times. */
export type Template =
  /** Nothing to fill in. */
  | { type: "constant"; value: unknown }
  /** One expression whose value is the result. */
  | { type: "value"; path: string; expression: Expression }
  /** Text with values in it. */
  | { type: "text"; path: string; parts: readonly (string | Expression)[] }
  | { type: "list"; items: readonly Template[] }
  | { type: "object"; entries: readonly (readonly [string, Template])[] };

/** What a template may refer to, and where it stands. */
export type TemplateContext = Place & {
  /** Steps that have ended when the template is evaluated. */
  steps: StepsBefore;
  /** Whether a step came before. @default whether there are `steps` */
  previous?: boolean;
  /** Which of the variables that are not everywhere there are. @default none */
  locals?: ReadonlySet<LocalVariable>;
};

const WHERE: { readonly [variable in LocalVariable]: string } = {
  item: "inside of `forEach`",
  index: "inside of `forEach` or `repeat`",
  last: "inside of `repeat`",
  output: "in `until` and `compensate`",
  error: "in `compensate` and `onFailure`",
};

/**
 * Compiles a template and checks what it refers to.
 *
 * @throws DefinitionError with every mistake in it.
 */
export function compileTemplate(value: unknown, context: TemplateContext): Template {
  const problems: Problem[] = [];
  const template = compile(value, context, problems);
  if (problems.length > 0) throw new DefinitionError(problems);
  return template;
}

/**
 * Fills a template in.
 *
 * @throws TroupeError `template_failed`, saying which expression failed and why; a missing value is a failure.
 */
export function evaluateTemplate(template: Template, scope: ExpressionScope): unknown {
  switch (template.type) {
    case "constant":
      return template.value;
    case "value":
      return evaluateAt(template.path, template.expression, scope);
    case "text":
      return template.parts
        .map((part) => (typeof part === "string" ? part : textAt(template.path, part, scope)))
        .join("");
    case "list":
      return template.items.map((item) => evaluateTemplate(item, scope));
    case "object":
      return Object.fromEntries(template.entries.map(([key, item]) => [key, evaluateTemplate(item, scope)]));
  }
}

/** The expressions in a template. */
export function expressionsIn(template: Template): Expression[] {
  switch (template.type) {
    case "constant":
      return [];
    case "value":
      return [template.expression];
    case "text":
      return template.parts.filter((part) => typeof part !== "string");
    case "list":
      return template.items.flatMap(expressionsIn);
    case "object":
      return template.entries.flatMap(([, item]) => expressionsIn(item));
  }
}

function textAt(path: string, expression: Expression, scope: ExpressionScope): string {
  const value = evaluateAt(path, expression, scope);
  return typeof value === "string" ? value : JSON.stringify(value);
}

function evaluateAt(path: string, expression: Expression, scope: ExpressionScope): unknown {
  try {
    return evaluateExpression(expression, scope);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const message = `${path}: expected {{ ${expression.source} }} to have a value, got: ${why}`;
    throw new TroupeError("template_failed", message, { cause: error });
  }
}

function compile(value: unknown, context: TemplateContext, problems: Problem[]): Template {
  if (typeof value === "string") return compileText(value, context, problems);
  if (typeof value !== "object" || value === null) return { type: "constant", value };
  const below = (key: string | number, item: unknown) =>
    compile(item, { ...context, path: joinPath(context.path, [key]) }, problems);
  if (Array.isArray(value)) {
    const items = value.map((item: unknown, index) => below(index, item));
    return items.every(isConstant) ? { type: "constant", value } : { type: "list", items };
  }
  const entries = Object.entries(value).map(([key, item]) => [key, below(key, item)] as const);
  return entries.every(([, item]) => isConstant(item)) ? { type: "constant", value } : { type: "object", entries };
}

function isConstant(template: Template): boolean {
  return template.type === "constant";
}

function compileText(text: string, context: TemplateContext, problems: Problem[]): Template {
  if (!text.includes("{{")) return { type: "constant", value: text };
  const parts: (string | Expression)[] = [];
  for (const piece of split(text)) {
    if (piece.type === "text") parts.push(piece.text);
    else if (piece.type === "open")
      problems.push(problemAt(placeAt(context), "{{ to be closed by }}", showValue(piece.text)));
    else addExpression(piece.source, parts, context, problems);
  }
  const [first] = parts;
  if (parts.length === 1 && typeof first === "object") return { type: "value", path: context.path, expression: first };
  return { type: "text", path: context.path, parts };
}

function addExpression(source: string, parts: (string | Expression)[], context: TemplateContext, problems: Problem[]) {
  try {
    const expression = compileExpression(source);
    parts.push(expression);
    problems.push(...unknownReferences(expression, context));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    problems.push(
      problemAt(placeAt(context), `a CEL expression${hint(source, context.steps)}`, `${showValue(source)}: ${why}`),
    );
  }
}

/** What an expression refers to and may not. */
export function unknownReferences(expression: Expression, context: TemplateContext): Problem[] {
  const { steps, previous = !isEmpty(steps), locals } = context;
  const problems = expression.steps
    .filter((step) => !steps.has(step))
    .map((step) => problemAt(placeAt(context), expectedStep(expression, steps), showValue(`steps.${step}`)));
  if (expression.usesPrevious && !previous) {
    problems.push(
      problemAt(placeAt(context), "`previous` only where a step comes before", showValue(expression.source)),
    );
  }
  for (const name of expression.locals) {
    if (locals?.has(name)) continue;
    problems.push(problemAt(placeAt(context), `\`${name}\` only ${WHERE[name]}`, showValue(expression.source)));
  }
  return problems;
}

function expectedStep({ source }: Expression, steps: StepsBefore): string {
  if (isEmpty(steps)) return "no reference to a step, for none comes before";
  return `a step that comes before (${[...steps].join(", ")})${hint(source, steps)}`;
}

function isEmpty(steps: StepsBefore): boolean {
  return steps[Symbol.iterator]().next().done === true;
}

/** In CEL `steps.writer-2` is a subtraction, which nobody means here. */
export function hint(source: string, steps: StepsBefore): string {
  const dashed = [...steps].find((step) => step.includes("-") && source.includes(`steps.${step}`));
  return dashed ? ` (with "-" in its id a step is written steps["${dashed}"])` : "";
}

type Piece = { type: "text"; text: string } | { type: "expression"; source: string } | { type: "open"; text: string };

function* split(text: string): Generator<Piece> {
  let position = 0;
  while (position < text.length) {
    const open = text.indexOf("{{", position);
    if (open > position || open < 0) yield { type: "text", text: text.slice(position, open < 0 ? undefined : open) };
    if (open < 0) return;
    const close = closingBraces(text, open + 2);
    if (close < 0) {
      yield { type: "open", text: text.slice(open) };
      return;
    }
    yield { type: "expression", source: text.slice(open + 2, close).trim() };
    position = close + 2;
  }
}

/** Where the `}}` stands that closes an expression: not one in a CEL string, and not the end of nested maps. */
function closingBraces(text: string, start: number): number {
  let depth = 0;
  for (let i = start; i < text.length; i++) {
    const character = text[i];
    if (character === '"' || character === "'") {
      i = closingQuote(text, i, character);
      if (i < 0) return -1;
    } else if (character === "{") depth++;
    else if (character === "}" && depth > 0) depth--;
    else if (character === "}" && text[i + 1] === "}") return i;
  }
  return -1;
}

function closingQuote(text: string, start: number, quote: string): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === quote) return i;
  }
  return -1;
}
