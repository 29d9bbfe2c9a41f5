// `npm run verify`: everything CI runs. Formatting, lint, types and unused code are one check each in the closing line;
// all of them run, whichever fail. The tests include the architecture, the examples and the README. After them comes the soak,
// two minutes with a seed that stays the same, alone on the machine.
import { spawnSync } from "node:child_process";
import { closeWith } from "./checks/closing-line.mjs";
import { runTests } from "./checks/run-tests.mjs";

const CHECKS = [
  { name: "format and lint", script: "node_modules/@biomejs/biome/bin/biome", args: ["ci", "."] },
  { name: "types", script: "node_modules/typescript/bin/tsc", args: ["-p", "tsconfig.json"] },
  { name: "unused code", script: "node_modules/knip/bin/knip.js", args: ["--no-progress"] },
];

const SOAK = { name: "soak", script: "soak/run.ts", args: ["--minutes", "2", "--seed", "1"] };

const failedChecks = CHECKS.filter((check) => !passes(check)).map(({ name }) => name);
const tests = await runTests();
if (!passes(SOAK)) failedChecks.push(SOAK.name);
for (const name of failedChecks) console.error(`verify: ${name}: failed, see above`);
await closeWith({
  passed: tests.passed + CHECKS.length + 1 - failedChecks.length,
  failed: tests.failed + failedChecks.length,
  skipped: tests.skipped,
});

function passes({ name, script, args }) {
  console.log(`verify: ${name}`);
  return (
    spawnSync(process.execPath, [...process.execArgv, script, ...args], { stdio: ["ignore", "inherit", "inherit"] })
      .status === 0
  );
}
