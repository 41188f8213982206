import { describe, expect, test } from "bun:test";
import { ReplicaError } from "../../../src/base/errors.ts";
import type { Offset, ReplicationId } from "../../../src/base/history.ts";
import type { FullSyncGrant, State } from "../../../src/session/state.ts";
import { FullLog } from "../../../src/upstream/room/full-log.ts";
import type { Room } from "../../../src/upstream/room/figures.ts";

const MB = 1_000_000;
const REPLID = "a".repeat(40) as ReplicationId;
const CONNECTED = { at: "connected", replid: REPLID, receivedOffset: 5_000 } as State;
const FULL = new ReplicaError("DISK_FULL", { message: "the disk is full" });
const LOST = new ReplicaError("LINK_LOST", { message: "gone" });

/** A disk that the log has filled but for 5 MB, and a snapshot of 4 MB. */
function rig({ room = {} as Partial<Room>, rdbBytes = 4 * MB } = {}) {
  const state = { ms: 0, isRenewing: false, isDark: false, noted: [] as string[] };
  const look = {
    freeBytes: 5 * MB,
    removableBytes: 0,
    guardedBytes: 0,
    logBytes: 200 * MB,
    ...room,
  };
  const fullLog = new FullLog({
    directory: {
      current: { id: 1, rdbBytes } as never,
      replid: REPLID,
      note: (_, what) => void state.noted.push(what),
    },
    clock: { monotonicMs: () => state.ms },
    room: { tryLook: () => (state.isDark ? undefined : look), pressureBytes: () => 25 * MB },
    writtenOffset: () => 4_000 as Offset,
    isRenewing: () => state.isRenewing,
  });
  return { fullLog, state };
}

/** Whether an attempt asks for a full resync; it does ask. */
function asks(fullLog: FullLog): boolean {
  const isAsking = fullLog.asksForFull();
  fullLog.moved({ at: "receive-psync", asked: undefined });
  return isAsking;
}

function grantAt(offset: number, replid = REPLID): FullSyncGrant {
  return { by: "psync", position: { replid, offset } } as FullSyncGrant;
}

test("a link that ended at the full disk is followed by a full resync, at once, and told", () => {
  const { fullLog, state } = rig();
  expect(fullLog.asksForFull()).toBe(false);
  fullLog.failed(FULL, CONNECTED);
  // Attempts that don't connect change nothing.
  fullLog.failed(LOST, { at: "connecting" });
  // Nor do they cost anything: the pause begins once the primary is asked.
  expect(fullLog.asksForFull()).toBe(true);
  // Where nobody can look at the room, the attempt goes on.
  state.isDark = true;
  expect(fullLog.asksForFull()).toBe(false);
  state.isDark = false;
  expect(state.noted).toEqual([]);
  expect(asks(fullLog)).toBe(true);
  expect(state.noted).toEqual([
    expect.stringMatching(/log of 190\.7 MiB has filled the disk, .* about 3\.8 MiB fits.* 5 s/),
  ]);
});

test("whatever comes of it, the next one waits for a pause that doubles up to an hour", () => {
  const { fullLog, state } = rig();
  const pauses = Array.from({ length: 14 }, () => {
    fullLog.connected(false);
    fullLog.failed(FULL, CONNECTED);
    let seconds = 0;
    for (; !asks(fullLog); seconds++) state.ms += 1000;
    return seconds;
  });
  expect(pauses.slice(0, 5)).toEqual([0, 5, 10, 20, 40]);
  expect(pauses.at(-1)).toBe(3_600);
  // All was well for long.
  fullLog.connected(true);
  expect(fullLog.asksForFull()).toBe(false);
  state.ms += 3 * 3_600_000;
  fullLog.failed(FULL, CONNECTED);
  expect(asks(fullLog)).toBe(true);
  state.ms += 5_000;
  expect(asks(fullLog)).toBe(true);
});

describe("a partial resync is asked for as ever", () => {
  test.each([
    ["old generations may go", { room: { removableBytes: 1 } }],
    ["guarded ones may", { room: { guardedBytes: 1 } }],
    ["there is room", { room: { freeBytes: 25 * MB } }],
    ["the snapshot doesn't fit", { rdbBytes: 4.5 * MB }],
    ["it takes more than the log", { room: { logBytes: 4.5 * MB } }],
  ])("where %s", (_, differs) => {
    const { fullLog } = rig(differs);
    fullLog.failed(FULL, CONNECTED);
    expect(fullLog.asksForFull()).toBe(false);
  });

  test("while a new snapshot is under way, after another break, and from another primary", () => {
    const { fullLog, state } = rig();
    fullLog.failed(FULL, CONNECTED);
    state.isRenewing = true;
    expect(fullLog.asksForFull()).toBe(false);
    state.isRenewing = false;
    fullLog.failed(LOST, CONNECTED);
    expect(fullLog.asksForFull()).toBe(false);
    fullLog.failed(FULL, CONNECTED);
    fullLog.forget();
    expect(fullLog.asksForFull()).toBe(false);
  });
});

test("a snapshot that is older than the end of the log is refused, and only then", () => {
  const { fullLog } = rig();
  expect(() => fullLog.refuseOld(grantAt(3_999))).not.toThrow();
  fullLog.failed(FULL, CONNECTED);
  expect(asks(fullLog)).toBe(true);
  expect(() => fullLog.refuseOld(grantAt(3_999))).toThrow("is of offset 3999");
  expect(() => fullLog.refuseOld(grantAt(4_000))).not.toThrow();
  expect(() => fullLog.refuseOld(grantAt(1, "b".repeat(40) as ReplicationId))).not.toThrow();
  expect(fullLog.asksForFull()).toBe(false);
  expect(() => fullLog.refuseOld(grantAt(3_999))).not.toThrow();
});
