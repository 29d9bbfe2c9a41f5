/** What became of the checks of a worker, for people. */
import type { Check } from "../runtime/conformance/check.ts";
import type { CheckResult, ConformanceReport } from "../runtime/conformance/check-worker.ts";
import { bold, dim, green, red, yellow } from "./style.ts";
import { pad } from "./terminal-text.ts";
import { count, inline } from "./words.ts";

/** Describes a report: a line for each check, what is wrong and where the contract says so, and the sum. */
export function describeConformance(report: ConformanceReport): string {
  const { subject, worker, checks } = report;
  const width = widthOf(checks);
  const lines = checks.map((check) => describeResult(check, width));
  const head = `${bold(subject)}${worker === undefined ? "" : `  ${dim(inline(worker))}`}`;
  return [head, ...lines, "", summary(report)].join("\n");
}

/** Describes checks before they are made. */
export function describeCheckList(checks: readonly Pick<Check, "id" | "sentence" | "place">[]): string {
  const width = widthOf(checks);
  return checks.map(({ id, sentence }) => `${pad(id, width)}  ${inline(sentence)}`).join("\n");
}

function describeResult(check: CheckResult, width: number): string {
  const { id, sentence, status } = check;
  const line = `${pad(id, width)}  ${sentence}`;
  switch (status) {
    case "passed":
      return `${green("✓")} ${line}`;
    case "skipped":
      return `${yellow("–")} ${dim(line)}\n  ${pad("", width)}  ${yellow(`skipped: ${inline(check.reason)}`)}`;
    case "failed":
      return [`${red("✗")} ${line}`, red(inline(check.problem)), dim(placeOf(check))].join(`\n  ${pad("", width)}  `);
  }
}

function placeOf({ place: { heading, says } }: CheckResult): string {
  return `docs/protocol.md, ${heading}: "${inline(says)}"`;
}

function summary({ passed, failed, skipped }: ConformanceReport): string {
  const unseen = skipped > 0 ? `, ${skipped} skipped` : "";
  if (failed === 0) return green(`Conforms: ${count(passed, "check")} passed${unseen}.`);
  return red(`Does not conform: ${count(failed, "check")} failed, ${passed} passed${unseen}.`);
}

function widthOf(checks: readonly { id: string }[]): number {
  return Math.max(0, ...checks.map(({ id }) => id.length));
}
