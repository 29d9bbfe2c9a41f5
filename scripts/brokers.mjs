// `npm run test:brokers`: the tests that need a broker on nats-server 2.9, 2.10 and the newest there is, and a table of
// what passed. Arguments: lines of releases to stay with, and files or folders of tests instead of the usual ones.
import { closeWith } from "./checks/closing-line.mjs";
import { runTests } from "./checks/run-tests.mjs";
import { BROKER_LINES, obtainBroker } from "./setup/brokers.mjs";

// Left out: memory.test.ts, the longest, in which nothing depends on the broker.
const TESTS = ["test/runtime/nats", "test/runtime/hosts", "test/scenarios"];
const NOT = ["--exclude", "test/scenarios/memory.test.ts"];
// One file at a time: what is compared is brokers, not how scenarios with processes of their own share the machine.
const CALM = ["--maxWorkers", "1"];

// Here there is time for waits as long as what is promised.
process.env.TROUPE_TEST_LONG = "1";

const args = process.argv.slice(2);
const isLine = (word) => BROKER_LINES.some(({ name }) => name === word);
const lines = BROKER_LINES.filter(({ name }) => !args.some(isLine) || args.includes(name));
const chosen = args.filter((word) => !isLine(word));
const tests = [...(chosen.length > 0 ? chosen : [...TESTS, ...NOT]), ...CALM];

// All first: the upgrade goes from the version under test to the newest.
const brokers = lines.map((line) => ({ line: line.name, ...obtainBroker(line) }));
const results = [];
for (const broker of brokers) results.push({ ...broker, count: broker.file && (await runOn(broker)) });
printTable();
const total = (key) => results.reduce((sum, { count }) => sum + (count ? count[key] : 0), 0);
// A version that is not there was not tested, which is no pass.
const missing = results.filter(({ count }) => !count).length;
await closeWith({ passed: total("passed"), failed: total("failed") + missing, skipped: total("skipped") });

/** Runs the tests on one nats-server, and counts. */
async function runOn({ version, file }) {
  console.log(`\nnats-server ${version} (${file})`);
  process.env.TROUPE_NATS_SERVER = file;
  // What vitest left there after the version before.
  process.exitCode = undefined;
  return await runTests(tests);
}

function printTable() {
  console.log("\n| nats-server | passed | failed | skipped |\n|---|---|---|---|");
  for (const { line, version, missing: why, count } of results) {
    if (count) console.log(`| ${version} | ${count.passed} | ${count.failed} | ${count.skipped} |`);
    else console.log(`| ${line} | could not be obtained: ${why} | | |`);
  }
}
