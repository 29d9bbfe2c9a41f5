import { expect, test } from "vitest";
import { type CpuProfile, readProfile } from "../../bench/read-profile.ts";

const frame = (functionName: string, url = "", lineNumber = 0) => ({ functionName, url, lineNumber });
const OURS = "file:///home/me/troupe/src/runtime/hosts/run-host.ts";
const THEIRS = "file:///home/me/troupe/node_modules/@scope/lib/src/index.js";

/** root → ours → theirs → built in; root → theirs; root → idle. */
const profile: CpuProfile = {
  nodes: [
    { id: 1, callFrame: frame("(root)"), children: [2, 5, 6, 7] },
    { id: 2, callFrame: frame("tell", OURS, 41), children: [3] },
    { id: 3, callFrame: frame("send", THEIRS, 9), children: [4] },
    { id: 4, callFrame: frame("writeBuffer") },
    { id: 5, callFrame: frame("onData", THEIRS, 19) },
    { id: 6, callFrame: frame("(idle)") },
    { id: 7, callFrame: frame("(garbage collector)") },
  ],
  // Each sample lasts until the next; the last one has no length.
  samples: [2, 3, 4, 5, 6, 7, 2],
  timeDeltas: [500, 1_000, 2_000, 3_000, 4_000, 50_000, 10_000],
};

test("time is that of the sample it follows, and idle time does not count", () => {
  expect(readProfile(profile).busyMs).toBe(20);
});

test("own time is summed by package and by file of ours, with what Node did for them", () => {
  expect(readProfile(profile).byOrigin).toEqual([
    { name: "(garbage collector)", ms: 10, share: 0.5 },
    { name: "@scope/lib", ms: 9, share: 0.45 },
    { name: "src/runtime/hosts/run-host.ts", ms: 1, share: 0.05 },
  ]);
});

test("a function is named with its file and line", () => {
  expect(readProfile(profile).byFunction.map(({ name }) => name)).toEqual([
    "(garbage collector)",
    "onData @scope/lib/src/index.js:20",
    "writeBuffer (built in)",
    "send @scope/lib/src/index.js:10",
    "tell src/runtime/hosts/run-host.ts:42",
  ]);
});

test("time in libraries is credited to the function of ours that called them", () => {
  expect(readProfile(profile).byCause).toEqual([
    { name: "by itself: (garbage collector)", ms: 10, share: 0.5 },
    { name: "tell src/runtime/hosts/run-host.ts:42", ms: 6, share: 0.3 },
    { name: "by itself: @scope/lib", ms: 4, share: 0.2 },
  ]);
});
