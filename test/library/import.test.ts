import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { tempDir } from "../support/temp.ts";
import { mayTrace } from "../support/traced-syncs.ts";
import { runProgram } from "./user-program.ts";

/** What a process has, as far as it can see itself. */
const LOOK = `
import { readdirSync, readlinkSync } from "node:fs";
const open = () => readdirSync("/proc/self/fd").flatMap((fd) => {
  try { return [readlinkSync("/proc/self/fd/" + fd)]; } catch { return []; }
}).toSorted();
const look = () => ({
  open: open(),
  environment: { ...process.env },
  globals: Object.getOwnPropertyNames(globalThis).toSorted(),
  listeners: process.eventNames().map(String),
  exitCode: process.exitCode ?? null,
  folder: process.cwd(),
});
`;

test("an import runs nothing, opens nothing, changes nothing, and loads little", async () => {
  using dir = tempDir("import");
  const { exitCode, stdout, stderr, home } = await runProgram(
    dir,
    `${LOOK}
    // What a first look opens for itself stays open.
    look();
    const before = look();
    const library = await import("bun-replica");
    const after = look();
    const loaded = Object.keys(require.cache).filter((path) => path.includes("/src/"));
    console.log(JSON.stringify({ before, after, names: Object.keys(library), loaded }));`,
  );
  expect([exitCode, stderr]).toEqual([0, ""]);
  const { before, after, names, loaded } = JSON.parse(stdout);
  expect(after).toEqual(before);
  expect(names).toEqual([
    "ReplicaError",
    "follow",
    "readKeys",
    "readLog",
    "restore",
    "snapshots",
    "verify",
  ]);
  expect(loaded.length).toBeLessThan(10);
  expect(loaded.map((path: string) => path.replace(/.*\/src\//, ""))).toContain("index.ts");
  expect(readdirSync(home)).toEqual([]);
});

/** The system calls that change something outside of the process, or speak to somebody. */
const CALLS = "%network,unlink,unlinkat,rename,renameat2,mkdir,mkdirat,openat,execve,kill";
const CHANGES = /O_CREAT|O_WRONLY|O_RDWR|^(?!openat)/;

/** What of that a program does, each kind once; without the numbers and names of this run. */
async function callsOf(source: string): Promise<string[]> {
  using dir = tempDir("import");
  const path = dir.file("trace");
  const under = ["strace", "-f", "-qq", "-e", "signal=none", "-e", `trace=${CALLS}`, "-o", path];
  expect((await runProgram(dir, source, { under })).exitCode).toBe(0);
  const calls = (await Bun.file(path).text())
    .split("\n")
    // Of one that is interrupted, the beginning has all that matters.
    .filter((line) => !line.includes("<... "))
    .map((line) => line.replace(/^\d+ +/, "").replace(/ <unfinished \.\.\.>$|\) += .*$/, ""))
    .map((call) => call.replaceAll(dir.path, "DIR").replaceAll(/0x[\da-f]+|\d+/g, "N"));
  return [...new Set(calls.filter((call) => CHANGES.test(call)))];
}

test.skipIf(!mayTrace("what an import calls"))(
  "an import writes, connects and starts nothing",
  async () => {
    const others = await callsOf("await 0;");
    const calls = await callsOf('await import("bun-replica");');
    expect(calls.filter((call) => !others.includes(call))).toEqual([]);
  },
);
