import { hasDependencies, installDependencies } from "./dependencies.mjs";
import { withLock } from "./lock.mjs";
import { findNatsServer, installNatsServer } from "./nats-server.mjs";
import { findNode, installNode } from "./node.mjs";

/**
 * Brings whatever is missing: a fitting Node, the dependencies, nats-server. Does nothing, quickly, when nothing is.
 * Gives `{ node, natsServer }`, the files of both. Throws SetupError with one line that says what to install.
 */
export async function ensureSetup() {
  return findAll() ?? (await withLock(installMissing));
}

function findAll() {
  const node = findNode();
  const natsServer = findNatsServer();
  return node && natsServer && hasDependencies() ? { node, natsServer } : undefined;
}

// Looks at each again: while we waited for the lock another set-up may have brought it.
function installMissing() {
  const node = findNode() ?? installNode();
  if (!hasDependencies()) installDependencies(node);
  const natsServer = findNatsServer() ?? installNatsServer();
  return { node, natsServer };
}
