/** Reads TypeScript sources as far as the architecture rules need: what a file imports, and which globals it uses. */
import { parseAst } from "vitest/node";

/** Sources by path from the root of the project, as `src/actors/agent.ts`. */
export type SourceFiles = ReadonlyMap<string, string>;

export type Import = {
  /** As written: `./agent.ts`, `zod`, `node:fs`. */
  specifier: string;
  /** True when nothing of it is left at run time. */
  typeOnly: boolean;
};

export type SourceScan = {
  imports: Import[];
  /** Global names as used: `setTimeout`, `Date.now`, `new Date()`; members are listed beside the object they are of. */
  globals: Set<string>;
  /** True when it declares with `using` or `await using`. */
  declaresUsing: boolean;
};

type Node = { type: string; [key: string]: unknown };

/** Scans one file. Dynamic imports count when their specifier is a literal. */
export function scanSource(path: string, text: string): SourceScan {
  const scan: SourceScan = { imports: [], globals: new Set(), declaresUsing: false };
  visit(parseAst(text, { lang: "ts" }, path) as unknown as Node, scan);
  return scan;
}

function visit(node: Node, scan: SourceScan): void {
  noteImport(node, scan.imports);
  noteGlobal(node, scan.globals);
  if (node.type === "VariableDeclaration" && String(node.kind).endsWith("using")) scan.declaresUsing = true;
  for (const [key, value] of Object.entries(node)) {
    if (isName(node, key)) continue;
    for (const child of Array.isArray(value) ? value : [value]) if (isNode(child)) visit(child, scan);
  }
}

function noteImport(node: Node, imports: Import[]): void {
  switch (node.type) {
    case "ImportDeclaration":
    case "ExportNamedDeclaration":
    case "ExportAllDeclaration":
    case "ImportExpression":
    case "TSImportType": {
      const specifier = isNode(node.source) ? node.source.value : undefined;
      if (typeof specifier !== "string") return;
      const typeOnly = node.type === "TSImportType" || node.importKind === "type" || node.exportKind === "type";
      imports.push({ specifier, typeOnly });
      return;
    }
    default:
  }
}

function noteGlobal(node: Node, globals: Set<string>): void {
  if (node.type === "Identifier") globals.add(String(node.name));
  if (node.type === "MemberExpression" && isNode(node.object) && isNode(node.property)) {
    globals.add(`${nameOf(node.object)}.${nameOf(node.property)}`);
  }
  if (node.type === "NewExpression" && isNode(node.callee) && (node.arguments as unknown[]).length === 0) {
    globals.add(`new ${nameOf(node.callee)}()`);
  }
  if (node.type === "CallExpression" && isNode(node.callee)) globals.add(`${nameOf(node.callee)}()`);
}

/** True for an identifier that is only a label: the `now` of `clock.now`, a key of an object or of a type. */
function isName(parent: Node, key: string): boolean {
  if (key === "property") return parent.type === "MemberExpression" && parent.computed === false;
  return key === "key" && parent.computed === false;
}

function nameOf(node: Node): string {
  return String(node.type === "Identifier" ? node.name : (node.value ?? "?"));
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && typeof (value as Node).type === "string";
}
