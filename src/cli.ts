/** The program `troupe`. */
import { runCli } from "./cli/run-cli.ts";

/** Whatever is still open by then (a connection that was given up) must not keep a command that is done. */
const LINGER_MS = 1_000;

// A reader that has seen enough (`troupe runs list | head -1`) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit();
  throw error;
});

await runCli(process.argv.slice(2));
setTimeout(() => process.exit(), LINGER_MS).unref();
