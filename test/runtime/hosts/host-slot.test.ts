import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { UnavailableError } from "../../../src/errors.ts";
import { takeHostSlot } from "../../../src/runtime/hosts/host-slot.ts";

let data: string;

beforeEach(async () => {
  data = await mkdtemp(join(tmpdir(), "troupe-slot-"));
});
afterEach(() => rm(data, { recursive: true, force: true }));

test("a daemon that starts again has the name and the folder it had", () => {
  const first = takeHostSlot(data);
  first.release();
  const second = takeHostSlot(data);
  expect({ host: second.host, dir: second.dir }).toEqual({ host: first.host, dir: first.dir });
  second.release();
});

test("several daemons on one folder have one each, and the free one is taken again", () => {
  const slots = [takeHostSlot(data), takeHostSlot(data), takeHostSlot(data)];
  expect(new Set(slots.map(({ host }) => host)).size).toBe(3);
  expect(new Set(slots.map(({ dir }) => dir)).size).toBe(3);
  slots[1]?.release();
  const again = takeHostSlot(data);
  expect(again.host).toBe(slots[1]?.host);
  for (const slot of [slots[0], again, slots[2]]) slot?.release();
});

test("a chosen name is the daemon's name, and only one daemon has it", () => {
  const slot = takeHostSlot(data, "blue");
  expect(slot.host).toBe("blue");
  expect(basename(slot.dir)).toBe("blue");
  expect(() => takeHostSlot(data, "blue")).toThrow(UnavailableError);
  expect(() => takeHostSlot(data, "blue")).toThrow("another daemon named blue is running on this folder");
  slot.release();
  takeHostSlot(data, "blue").release();
});

test("the folder of a daemon that was killed is free at once, name and all", async () => {
  const module = fileURLToPath(new URL("../../../src/runtime/hosts/host-slot.ts", import.meta.url));
  const code = `
    const { takeHostSlot } = await import(${JSON.stringify(module)});
    console.log(takeHostSlot(${JSON.stringify(data)}).host);
    setInterval(() => {}, 1_000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  const host = line.toString().trim();
  const beside = takeHostSlot(data);
  expect(beside.host).not.toBe(host);
  child.kill("SIGKILL");
  await once(child, "exit");
  const heir = takeHostSlot(data);
  expect(heir.host).toBe(host);
  for (const slot of [beside, heir]) slot.release();
});
