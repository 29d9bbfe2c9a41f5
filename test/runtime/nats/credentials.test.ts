import { execFileSync, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nkeys } from "nats";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connectBus, type NatsOptions } from "../../../src/runtime/nats/connection.ts";
import { startTestNats } from "../../helpers/nats-server.ts";

type KeyPair = ReturnType<typeof nkeys.createUser>;

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "troupe-credentials-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test("an nkey seed file lets a daemon in", async () => {
  const user = nkeys.createUser();
  const nkey = await keep("user.nk", `${seedOf(user)}\n`);
  await using nats = await startTestNats({
    configExtra: `authorization { users = [ { nkey: ${user.getPublicKey()} } ] }`,
  });
  await expectIn(nats.url, { nkey });
  await expectOut(nats.url, {});
});

test("a user and a password let a daemon in", async () => {
  await using nats = await startTestNats({ configExtra: 'authorization { user: "ann", password: "pass" }' });
  await expectIn(nats.url, { user: "ann", password: "pass" });
  await expectOut(nats.url, { user: "ann", password: "wrong" });
});

test("a credentials file lets a daemon in", async () => {
  const [operator, account, user] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createUser()];
  // JetStream needs a system account to stand in.
  const system = nkeys.createAccount();
  const operatorJwt = sign(operator, operator, "O", { type: "operator" });
  const accountJwt = sign(operator, account, "A", { type: "account", limits: UNLIMITED });
  const systemJwt = sign(operator, system, "SYS", { type: "account", limits: UNLIMITED });
  const userJwt = sign(account, user, "U", { type: "user", subs: -1, data: -1, payload: -1 });
  const creds = await keep(
    "user.creds",
    [
      `-----BEGIN NATS USER JWT-----\n${userJwt}\n------END NATS USER JWT------`,
      `-----BEGIN USER NKEY SEED-----\n${seedOf(user)}\n------END USER NKEY SEED------`,
      "",
    ].join("\n\n"),
  );
  await using nats = await startTestNats({
    configExtra: [
      `operator: ${operatorJwt}`,
      "resolver: MEMORY",
      `system_account: ${system.getPublicKey()}`,
      `resolver_preload: { ${account.getPublicKey()}: ${accountJwt}, ${system.getPublicKey()}: ${systemJwt} }`,
    ].join("\n"),
  });
  await expectIn(nats.url, { creds });
  await expectOut(nats.url, {});
});

test.skipIf(!hasOpenssl())(
  "a TLS certificate lets a daemon in, and a broker it does not trust is not talked to",
  async () => {
    const [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map((name) => join(dir, name)) as [
      string,
      string,
      string,
    ];
    // One certificate is authority, server and client here.
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    const words = [
      "req",
      "-x509",
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-days",
      "2",
      "-keyout",
      key,
      "-out",
      cert,
      ...subject,
    ];
    execFileSync("openssl", words, { stdio: "ignore" });
    execFileSync("cp", [cert, ca]);
    await using nats = await startTestNats({
      configExtra: `tls { cert_file: "${cert}", key_file: "${key}", ca_file: "${ca}", verify: true }`,
    });
    const url = nats.url.replace("nats://", "tls://").replace("127.0.0.1", "localhost");
    await expectIn(url, { tlsCa: ca, tlsCert: cert, tlsKey: key });
    await expectOut(url, { tlsCert: cert, tlsKey: key });
  },
);

/** Node makes no certificates by itself. */
function hasOpenssl(): boolean {
  return spawnSync("openssl", ["version"], { stdio: "ignore" }).status === 0;
}

async function expectIn(servers: string, more: Partial<NatsOptions>): Promise<void> {
  const bus = await connectBus(options(servers, more));
  await bus.nc.flush();
  await bus.close();
}

async function expectOut(servers: string, more: Partial<NatsOptions>): Promise<void> {
  await expect(connectBus({ ...options(servers, more), waitAtStart: false })).rejects.toThrow();
}

function options(servers: string, more: Partial<NatsOptions>): NatsOptions {
  return { servers, name: "test", inboxPrefix: "_INBOX_test", ...more };
}

async function keep(name: string, text: string): Promise<string> {
  const file = join(dir, name);
  await writeFile(file, text);
  return file;
}

function seedOf(pair: KeyPair): string {
  return Buffer.from(pair.getSeed()).toString("utf8");
}

const UNLIMITED = { subs: -1, conn: -1, leaf: -1, imports: -1, exports: -1, data: -1, payload: -1, wildcards: true };

/** A NATS JWT, version 2: https://docs.nats.io/running-a-nats-service/configuration/securing_nats/jwt */
function sign(issuer: KeyPair, subject: KeyPair, name: string, nats: object): string {
  const claims = {
    jti: `${name}-${subject.getPublicKey().slice(-8)}`,
    iat: Math.floor(Date.now() / 1_000),
    iss: issuer.getPublicKey(),
    sub: subject.getPublicKey(),
    name,
    nats: { version: 2, ...nats },
  };
  const signed = [{ typ: "JWT", alg: "ed25519-nkey" }, claims].map((part) => base64(JSON.stringify(part))).join(".");
  return `${signed}.${base64(issuer.sign(Buffer.from(signed)))}`;
}

function base64(bytes: string | Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}
