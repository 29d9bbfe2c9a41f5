import { resolve } from "node:path";
import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { DefinitionError } from "../../../src/errors.ts";
import { addOptionFlags, flagsOf } from "../../../src/runtime/config/option-flags.ts";
import { flagOf, OPTION_KEYS, variableOf } from "../../../src/runtime/config/options.ts";
import { type OptionSources, resolveOptions } from "../../../src/runtime/config/resolve-options.ts";

function resolved(sources: OptionSources) {
  return resolveOptions({ cwd: "/srv/app", ...sources }).options;
}

function problemsOf(sources: OptionSources): string[] {
  try {
    resolveOptions(sources);
    return [];
  } catch (error) {
    if (error instanceof DefinitionError) return error.message.split("\n");
    throw error;
  }
}

function parseFlags(...args: string[]) {
  const command = addOptionFlags(new Command()).exitOverride();
  command.parse(args, { from: "user" });
  return flagsOf(command.opts());
}

describe("options", () => {
  it("without anything written every option has its default", () => {
    expect(resolved({})).toMatchObject({
      nats: undefined,
      prefix: "troupe",
      data: "/srv/app/.troupe",
      suspectAfterMs: 2_500,
      beatMs: 500,
      drainTimeoutMs: 30_000,
      httpHost: "127.0.0.1",
      logLevel: "info",
      captureContent: false,
      retentionMs: 604_800_000,
    });
  });

  it("a flag goes before a variable, a variable before the file, the file before the default", () => {
    const flags = { suspectAfterMs: "4s" };
    const env = { TROUPE_SUSPECT_AFTER_MS: "3000" };
    const file = { suspectAfterMs: 2_000 };
    expect(resolved({ flags, env, file }).suspectAfterMs).toBe(4_000);
    expect(resolved({ env, file }).suspectAfterMs).toBe(3_000);
    expect(resolved({ file }).suspectAfterMs).toBe(2_000);
  });

  it("an empty variable is as good as none", () => {
    expect(resolved({ env: { TROUPE_PREFIX: "" }, file: { prefix: "mine" } }).prefix).toBe("mine");
  });

  it("NATS_URL is understood, and goes behind the variable of Troupe", () => {
    const env = { NATS_URL: "nats://a:4222, tls://b:4222" };
    expect(resolved({ env }).nats).toEqual(["nats://a:4222", "tls://b:4222"]);
    expect(resolved({ env: { ...env, TROUPE_NATS: "c" } }).nats).toEqual(["c"]);
  });

  it.each([
    ["2500", 2_500],
    ["2500ms", 2_500],
    ["2.5s", 2_500],
    ["1m", 60_000],
    ["1h", 3_600_000],
  ])("a duration may be written %s", (written, ms) => {
    expect(resolved({ flags: { drainTimeoutMs: written } }).drainTimeoutMs).toBe(ms);
    expect(resolved({ file: { drainTimeoutMs: written } }).drainTimeoutMs).toBe(ms);
  });

  it.each([
    ["1048576", 1_048_576],
    ["2MiB", 2_097_152],
    ["1.5 gib", 1_610_612_736],
    ["10GB", 10_000_000_000],
  ])("a size may be written %s", (written, bytes) => {
    expect(resolved({ flags: { retentionBytes: written } }).retentionBytes).toBe(bytes);
    expect(resolved({ env: { TROUPE_RETENTION_BYTES: written } }).retentionBytes).toBe(bytes);
    expect(resolved({ file: { retentionBytes: bytes } }).retentionBytes).toBe(bytes);
  });

  it("a size that is none is told with what one looks like", () => {
    expect(problemsOf({ flags: { retentionBytes: "much", maxJournalBytes: "1k" } })).toEqual([
      `--retention-bytes: expected a size such as 1048576, 512MiB or 10GB, from 1048576 to ${Number.MAX_SAFE_INTEGER} bytes, got "much"`,
      `--max-journal-bytes: expected a size such as 1048576, 512MiB or 10GB, from 1048576 to 1073741824 bytes, got "1k"`,
    ]);
  });

  it("a relative path starts where it is written", () => {
    const sources = { cwd: "/srv/app", fileDir: "/etc/troupe" };
    expect(resolved({ ...sources, file: { creds: "a.creds", data: "/var/troupe" } })).toMatchObject({
      creds: resolve("/etc/troupe/a.creds"),
      data: "/var/troupe",
    });
    expect(resolved({ ...sources, env: { TROUPE_CREDS: "a.creds" } }).creds).toBe(resolve("/srv/app/a.creds"));
  });

  it("everything wrong is told at once, with where it was written", () => {
    const flags = { httpPort: "99999", suspectAfter: "1s" };
    const env = { TROUPE_LOG_LEVEL: "loud", TROUPE_TOKEN: "secret" };
    const file = { beatMs: "fast", agnts: ["a"], nats: ["nats://a b"] };
    expect(problemsOf({ flags, env, file, fileName: "troupe.yaml" })).toEqual([
      `troupe.yaml: daemon.agnts: expected the key of an option (did you mean agents?), got "agnts"`,
      `suspectAfter: expected the key of an option (did you mean suspectAfterMs?), got "suspectAfter"`,
      `troupe.yaml: daemon.nats: expected a list of NATS URLs, got ["nats://a b"]`,
      `--http-port: expected a whole number from 0 to 65535, got "99999"`,
      'TROUPE_LOG_LEVEL: expected one of trace, debug, info, warn, error, fatal, silent, got "loud"',
      `troupe.yaml: daemon.beatMs: expected a duration such as 2500, 2.5s, 1m, 1h or 7d, from 10 to 2147483647 ms, got "fast"`,
    ]);
  });

  it("a secret does not show in an error", () => {
    expect(problemsOf({ file: { token: 123_456 } })).toEqual([
      "daemon.token: expected text, got a value that does not fit",
    ]);
  });

  it("values that contradict each other are refused", () => {
    expect(problemsOf({ flags: { suspectAfterMs: "700", user: "ada", tlsKey: "k.pem" } })).toEqual([
      expect.stringMatching(/^suspectAfterMs: expected at least twice beatMs \(500\), .*, got 700$/),
      "password: expected a value, because user has one, got nothing",
      "tlsCert: expected a value, because tlsKey has one, got nothing",
    ]);
  });

  it("a variable of Troupe that nothing reads is a warning", () => {
    const { warnings } = resolveOptions({ env: { TROUPE_SUSPECT_AFTER: "1", TROUPE_BEAT_MSS: "1", OTHER: "x" } });
    expect(warnings).toEqual([
      "TROUPE_SUSPECT_AFTER: expected the variable of an option, so it is ignored",
      "TROUPE_BEAT_MSS: expected the variable of an option (did you mean TROUPE_BEAT_MS?), so it is ignored",
    ]);
  });

  it("flags of a command become options", () => {
    const flags = parseFlags("--suspect-after", "1m", "--agents", "a,b", "--capture-content", "--nats", "nats://x:1");
    expect(resolved({ flags })).toMatchObject({
      suspectAfterMs: 60_000,
      agents: ["a", "b"],
      captureContent: true,
      nats: ["nats://x:1"],
    });
    expect(parseFlags("--no-capture-content")).toEqual({ captureContent: false });
    expect(parseFlags()).toEqual({});
  });

  it("every option has its own flag and its own variable", () => {
    expect(new Set(OPTION_KEYS.map(flagOf)).size).toBe(OPTION_KEYS.length);
    expect(new Set(OPTION_KEYS.map(variableOf)).size).toBe(OPTION_KEYS.length);
    expect([flagOf("suspectAfterMs"), variableOf("suspectAfterMs")]).toEqual([
      "--suspect-after",
      "TROUPE_SUSPECT_AFTER_MS",
    ]);
  });
});
