/** The allow-lists of docs/protocol.md, as configuration of a nats-server. */
import { readFile } from "node:fs/promises";

const DOCUMENT = new URL("../../docs/protocol.md", import.meta.url);

/** Reads them. */
export async function documentedPermissions(): Promise<string> {
  const text = await readFile(DOCUMENT, "utf8");
  const block = /<!-- permissions -->\n```\n(.*?)```/s.exec(text)?.[1];
  if (!block) throw new Error("docs/protocol.md: expected a block between <!-- permissions --> marks, got none");
  return block;
}
