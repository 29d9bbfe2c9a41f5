import { tmpdir } from "node:os";
import { expect, test } from "vitest";
import { VERSION } from "../../src/runtime/version.ts";
import { troupe } from "../helpers/troupe.ts";

const cli = (...args: string[]) => troupe(args, { cwd: tmpdir() });

test("--version prints the version of the package", async () => {
  expect(await cli("--version")).toEqual({ code: 0, stdout: `${VERSION}\n`, stderr: "" });
});

test("help names every command, and a command's help has examples", async () => {
  const { code, stdout } = await cli("--help");
  expect(code).toBe(0);
  for (const command of ["serve", "run", "runs", "agents", "workflows", "events", "validate"]) {
    expect(stdout).toContain(`\n  ${command} `);
  }
  expect((await cli("run", "--help")).stdout).toContain("Examples:");
  expect((await cli("serve", "--help")).stdout).toContain("--suspect-after <duration>");
});

test("a command or flag that is not there ends with 2 and a suggestion", async () => {
  expect(await cli("rnu")).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("Did you mean run") });
  expect(await cli("agents", "--jsn")).toMatchObject({ code: 2, stderr: expect.stringContaining("--json") });
});
