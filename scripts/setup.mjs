#!/usr/bin/env node
// Brings what this checkout needs to run: a fitting Node, the dependencies, nats-server. Plain JavaScript for Node >= 18,
// since it runs before anything newer is there. Says nothing when nothing is missing.
import { SetupError } from "./setup/command.mjs";
import { ensureSetup } from "./setup/ensure.mjs";

try {
  await ensureSetup();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`setup: ${error.message}`);
  process.exitCode = 1;
}
