import { expect, test } from "bun:test";
import { snapshotTables } from "../../../src/cli/archives/snapshot-tables.ts";
import type { Snapshot } from "../../../src/inspect/snapshots/snapshot.ts";

const snapshot: Snapshot = {
  id: 1,
  state: "sealed",
  sealedReason: "replaced (--snapshot-every)",
  primary: "redis://10.0.0.5:6379",
  primaryVersion: "redis 8.0.2",
  rdbFormat: "REDIS0012",
  rdbVersion: 12,
  fromMs: 1_764_000_001_928,
  toMs: 1_764_086_402_901,
  fromOffset: 0,
  toOffset: 88_151_163,
  rdbBytes: 1.2 * 1024 ** 3,
  rdbCrc64: undefined,
  logBytes: 84 * 1024 ** 2,
  replicationIds: [],
  encrypted: undefined,
};
const current: Snapshot = { ...snapshot, id: 2, state: "current", sealedReason: undefined };

test("tells when, how much, where from, and why it ended", () => {
  expect(snapshotTables([{ snapshot }, { snapshot: current }]))
    .toBe(`id  state    from                      until
 1  sealed   2025-11-24T16:00:01.928Z  2025-11-25T16:00:02.901Z
 2  current  2025-11-24T16:00:01.928Z  2025-11-25T16:00:02.901Z

id  from offset  to offset  snapshot  log
 1            0   88151163  1.2 GiB   84.0 MiB
 2            0   88151163  1.2 GiB   84.0 MiB

id  primary                server       rdb
 1  redis://10.0.0.5:6379  redis 8.0.2  REDIS0012
 2  redis://10.0.0.5:6379  redis 8.0.2  REDIS0012

id  sealed because
 1  replaced (--snapshot-every)
 2
`);
});

/** The largest and longest of everything that may come. */
const extreme: Snapshot = {
  ...snapshot,
  id: 4_294_967_295,
  sealedReason: `full resync at offset 1: ${"the primary's history differs ".repeat(12)}`,
  primary: `rediss://${"a".repeat(253)}:65535`,
  primaryVersion: `valkey ${"9".repeat(60)}`,
  fromOffset: Number.MAX_SAFE_INTEGER - 1,
  toOffset: Number.MAX_SAFE_INTEGER,
  rdbBytes: 1023.9 * 1024 ** 5,
  logBytes: 1023.9 * 1024 ** 5,
};
const archived: Snapshot = { ...extreme, id: "20251124T160001Z-1a2b3c4d5e6f", state: "incomplete" };
const shard = { name: "0001", ended: `joined another shard: ${"b".repeat(100)}` };

test.each([
  ["a data directory", [{ snapshot: extreme }, { snapshot: current }]],
  ["an archive", [{ snapshot: archived }]],
  [
    "a cluster",
    [
      { snapshot: extreme, shard },
      { snapshot: current, shard },
    ],
  ],
  [
    "nothing known",
    [{ snapshot: { ...current, fromMs: undefined, toMs: undefined, primary: undefined } }],
  ],
])("%s fits into 80 columns, and nothing is cut", (_, listed) => {
  const text = snapshotTables(listed);
  for (const line of text.split("\n")) expect([line, line.length <= 80]).toEqual([line, true]);
  const flat = text.replaceAll(/\s/g, "");
  for (const { snapshot: one } of listed) {
    const lasting = [one.id, one.fromOffset, one.toOffset, one.state];
    for (const part of lasting) expect(flat).toContain(String(part));
    const letters = (letter: string) => (one.primary ?? "").split(letter).length - 1;
    expect(flat.split("a").length).toBeGreaterThan(letters("a"));
  }
});

test("the control characters of a hostile name don't reach the terminal", () => {
  const hostile = { ...current, primary: "redis://\x1b[2Jh", primaryVersion: "\x1b]0;x\x07" };
  const text = snapshotTables([{ snapshot: hostile }]);
  for (const control of ["\x1b", "\x07"]) expect(text).not.toContain(control);
});
