// `npm test`: all tests, or those that the arguments name (as for vitest), and the closing line.
import { closeWith } from "./checks/closing-line.mjs";
import { runTests } from "./checks/run-tests.mjs";

await closeWith(await runTests(process.argv.slice(2)));
