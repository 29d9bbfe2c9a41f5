import { parseCLI, startVitest } from "vitest/node";

/**
 * Runs vitest once, with arguments as its CLI takes them, and counts.
 * Gives `{ passed, failed, skipped }`; a file that does not load and an error outside of any test count as failed.
 */
export async function runTests(args = []) {
  const { filter, options } = parseCLI(["vitest", "run", ...args]);
  const vitest = await startVitest(filter, { ...options, watch: false });
  const count = countTests(vitest.state);
  if (vitest.state.getTestModules().length === 0 && !options.passWithNoTests) count.failed++;
  // vitest also sets the exit code, as for a coverage threshold that is not reached.
  if (process.exitCode && count.failed === 0) count.failed++;
  await vitest.close();
  return count;
}

function countTests(state) {
  const count = { passed: 0, failed: state.getUnhandledErrors().length, skipped: 0 };
  for (const module of state.getTestModules()) {
    let failedInside = 0;
    for (const test of module.children.allTests()) {
      const { state: outcome } = test.result();
      if (outcome === "passed") count.passed++;
      else if (outcome === "skipped") count.skipped++;
      else failedInside++;
    }
    // A module or hook may fail without any failed test in it.
    count.failed += module.ok() ? failedInside : Math.max(1, failedInside);
  }
  return count;
}
