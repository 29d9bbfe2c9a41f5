import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "nats";
import { expect, test } from "vitest";
import { cpuMsOf } from "../helpers/cpu-of.ts";
import { startTestNats } from "../helpers/nats-server.ts";
import { serveFilesOnly } from "../helpers/troupe.ts";
import { until } from "../helpers/until.ts";

type Lists = { publish: string[]; subscribe: string[] };

/** Nobody sends anything there while this test looks. */
const UNUSED = new Set([
  "$O.troupe_payloads.>",
  "$O.troupe_uploads.>",
  "$JS.FC.>",
  "_INBOX_client.>",
  "_INBOX_worker.>",
]);
const WATCH_MS = 3_000;
const AT_ONCE = 4;

test("a daemon that NATS denies one of its subjects names it, says little and spins on nothing", {
  timeout: 180_000,
}, async () => {
  const lists = await documentedLists();
  const cases = (["publish", "subscribe"] as const).flatMap((operation) =>
    lists[operation].map((denied, i) => ({ operation, denied, user: `${operation}${i}` })),
  );
  const users = cases.map(({ operation, denied, user }) => {
    const allowed = { ...lists, [operation]: lists[operation].filter((subject) => subject !== denied) };
    return `{ user: ${user}, password: any, permissions: ${namedFor(user, JSON.stringify(allowed))} }`;
  });
  await using nats = await startTestNats({
    configExtra: `authorization { users: [{ user: admin, password: any }, ${users.join(", ")}] }`,
  });
  const admin = await connect({ servers: nats.url, user: "admin", pass: "any" });
  const problems: string[] = [];
  const left = [...cases];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let next = left.pop(); next; next = left.pop()) problems.push(...(await look(next)));
    }),
  );
  await admin.close();
  expect(problems).toEqual([]);

  async function look({ operation, denied, user }: (typeof cases)[number]): Promise<string[]> {
    const flags = ["--nats", nats.url, "--user", user, "--password", "any", "--prefix", user, "--log-format", "json"];
    await using served = await serveFilesOnly(FILES, flags);
    const { child, out } = served.serve;
    const lines = () => out.stdout.split("\n").filter((line) => line.includes('"msg"'));
    await until("it says something", () => lines().length > 1 || child.exitCode !== null, { withinMs: 60_000 });
    await sleep(1_500);
    const request = JSON.stringify({ input: "tea", replyTo: "results.x" });
    for (let i = 0; i < 5; i += 1) admin.publish(`${user}.requests.single`, request);
    const before = child.exitCode === null ? await cpuMsOf(child.pid as number) : 0;
    await sleep(WATCH_MS);
    const cpuMs = child.exitCode === null ? (await cpuMsOf(child.pid as number)) - before : 0;
    const what = `without ${operation} ${denied}`;
    const bad = lines().filter((line) => /"level":"(warn|error)"/.test(line));
    const named = `${out.stdout}${out.stderr}`.includes(
      namedFor(user, denied)
        .replace(/[>*].*$/, "")
        .trim(),
    );
    console.log(`${what}: ${cpuMs} ms of CPU in ${WATCH_MS} ms, ${bad.length} warnings, exit ${child.exitCode}`);
    return [
      ...(cpuMs > WATCH_MS / 4 ? [`${what}: ${cpuMs} ms of CPU in ${WATCH_MS} ms`] : []),
      ...(bad.length > 25 ? [`${what}: ${bad.length} lines, the last: ${bad.at(-1)}`] : []),
      ...(named || UNUSED.has(denied) ? [] : [`${what}: not named in ${out.stdout.slice(-2_000)}${out.stderr}`]),
    ];
  }
});

const FILES = {
  "troupe.yaml": `
providers: { scripted: { module: ./model.ts } }
tools: { note: { module: ./note.ts } }
agents: { echo: { instructions: Say it again., model: test, provider: scripted } }
workflows: { single: { agents: [echo] } }
`,
  "note.ts": `
import { defineTool } from "troupe";
import { z } from "${import.meta.resolve("zod")}";
export const note = defineTool({ name: "note", description: "Notes.", parameters: z.object({}), execute: () => 1 });
`,
  "model.ts": `
import { rulesModel, say } from "troupe/testing";
export default rulesModel([{ agent: "echo", reply: say("tea") }]);
`,
};

/** The daemon's allow-lists in docs/protocol.md. */
async function documentedLists(): Promise<Lists> {
  const text = await readFile(new URL("../../docs/protocol.md", import.meta.url), "utf8");
  const block = /user: daemon,.*?publish: (\[.*?\])\s+subscribe: (\[.*?\])/s.exec(text);
  return { publish: JSON.parse(block?.[1] ?? "[]"), subscribe: JSON.parse(block?.[2] ?? "[]") } as Lists;
}

/** Names of a troupe with the prefix `prefix` in place of the documented ones. */
function namedFor(prefix: string, text: string): string {
  return text.replaceAll("TROUPE_", `${prefix.toUpperCase()}_`).replaceAll("troupe", prefix);
}
