/**
 * Prints the line every check ends with, alone and without colour, and ends with exit code 1 if anything failed.
 * Waits until the line is written: a pipe may still be full of what came before.
 */
export async function closeWith({ passed, failed, skipped }) {
  await new Promise((written) => {
    process.stdout.write(`\n${passed} passed, ${failed} failed, ${skipped} skipped\n`, written);
  });
  // A handle that a test forgot must not keep a finished check open.
  process.exit(failed === 0 ? 0 : 1);
}
