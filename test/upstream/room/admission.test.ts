import { describe, expect, test } from "bun:test";
import { realClock } from "../../../src/base/clock.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import type { ReplicationId } from "../../../src/base/history.ts";
import type { State } from "../../../src/session/state.ts";
import { Admission } from "../../../src/upstream/room/admission.ts";
import { errorOf, rejectionOf } from "../../support/error-of.ts";
import { tempDir } from "../../support/temp.ts";

const MB = 1_000_000;
const MIB = 1024 * 1024;
const REPLID = "a".repeat(40);
const RESUME = { replid: REPLID as ReplicationId, offset: 1_000 };

/** What a primary says of itself; it continues after what is kept unless `begin` says otherwise. */
function info({
  dataset,
  used,
  begin = 1,
  replid = REPLID,
}: Partial<Record<"dataset" | "used" | "begin", number>> & { replid?: string }) {
  const all = used === undefined ? "" : `used_memory:${used}\n`;
  const size = dataset === undefined ? "" : `${all}used_memory_dataset:${dataset}\n`;
  return `# Memory\n${size}\n# Replication\nrole:master\nmaster_replid:${replid}\nmaster_replid2:${"0".repeat(40)}\nsecond_repl_offset:-1\nrepl_backlog_active:1\nrepl_backlog_first_byte_offset:${begin}\nrepl_backlog_histlen:${10_000 - begin}\n`;
}

/** An admission to a disk with so much room, by clocks of the test's. */
function admitting({
  available = 100 * MB,
  snapshot = undefined as number | undefined,
  minFree = 1,
  askPrimary = true,
  base = "/none",
} = {}) {
  const state = {
    available,
    snapshot,
    ms: 0,
    /** Free now, what may give way, and what gives way last. */
    free: available,
    removable: 0,
    guarded: 0,
    made: [] as { bytes: number; evenGuarded: boolean }[],
  };
  const admission = new Admission({
    directory: {
      path: "/data",
      get freeBytes() {
        return state.free;
      },
      basePath: () => base,
      get current() {
        return state.snapshot === undefined ? undefined : ({ rdbBytes: state.snapshot } as never);
      },
    },
    clock: { ...realClock, monotonicMs: () => state.ms },
    settings: { minFreeBytes: minFree, askPrimary },
    room: { availableBytes: () => state.available },
    pressure: {
      makeRoom: async (bytes, _why, evenGuarded) => {
        state.made.push({ bytes, evenGuarded });
        const some = Math.min(Math.max(0, bytes - state.free), state.removable);
        state.removable -= some;
        state.free += some;
        if (!evenGuarded) return;
        const last = Math.min(Math.max(0, bytes - state.free), state.guarded);
        state.guarded -= last;
        state.free += last;
      },
    },
  });
  return { admission, state };
}

/** The transfer that ended with a full disk. */
function brokenAt(readBytes: number, totalBytes?: number) {
  return { at: "transfer", readBytes, totalBytes } as State;
}
/** Why an attempt may not go on; undefined where it may. */
function errorOfWeigh(weigh: () => void): string | undefined {
  try {
    weigh();
    return undefined;
  } catch (error) {
    return (error as ReplicaError).message;
  }
}
const FULL = new ReplicaError("DISK_FULL", { message: "the disk is full" });

test("a primary whose INFO never comes, or can't be read, isn't asked again until the link was up", () => {
  const { admission } = admitting();
  const onInfo = { at: "receive-version", asked: "info" } as const;
  const protocol = new ReplicaError("PROTOCOL", { message: "INFO is no text" });
  admission.failed(protocol, { at: "receive-version", asked: "version" });
  expect(admission.weigh(undefined)).toBeFunction();
  admission.failed(new ReplicaError("LINK_LOST", { message: "lost" }), onInfo);
  expect(admission.weigh(undefined)).toBeFunction();
  for (const code of ["PROTOCOL", "TIMED_OUT"] as const) {
    admission.failed(new ReplicaError(code, { message: "no INFO" }), onInfo);
    expect(admission.weigh(undefined)).toBeUndefined();
    admission.connected(true);
    expect(admission.weigh(undefined)).toBeFunction();
  }
});

describe("where nothing is kept", () => {
  test("the primary's data in memory is the size of the first resync", () => {
    const { admission } = admitting();
    admission.weigh(undefined)!(info({ dataset: 100 * MB }));
    expect(admission.refusedBytes).toBeUndefined();
    const error = errorOf(() => admission.weigh(undefined)!(info({ dataset: 101 * MB })));
    expect(error).toMatchObject({ code: "DISK_FULL", retry: "backoff" });
    expect(error.message).toMatch(/about 96\.3 MiB doesn't fit on the disk of \/data: .*make room/);
    expect(admission.refusedBytes).toBe(101 * MB);
  });

  test("the same refusal is one error, however much the figures waver", () => {
    const { admission } = admitting();
    const first = errorOf(() => admission.weigh(undefined)!(info({ dataset: 200 * MB })));
    expect(errorOf(() => admission.weigh(undefined)!(info({ dataset: 205 * MB })))).toBe(first);
    const other = errorOf(() => admission.weigh(undefined)!(info({ dataset: 300 * MB })));
    expect(other.message).not.toBe(first.message);
  });

  test("it is asked for as soon as there is room, or less data", () => {
    const { admission, state } = admitting();
    expect(() => admission.weigh(undefined)!(info({ dataset: 200 * MB }))).toThrow();
    state.available = 201 * MB;
    admission.weigh(undefined)!(info({ dataset: 200 * MB }));
    state.available = 100 * MB;
    admission.weigh(undefined)!(info({ dataset: 99 * MB }));
  });

  test("--min-free 0 lets it be tried, once", () => {
    const { admission } = admitting({ minFree: 0 });
    expect(admission.weigh(undefined)).toBeUndefined();
    admission.failed(FULL, brokenAt(100 * MB));
    expect(() => admission.weigh(undefined)!(info({ dataset: 200 * MB }))).toThrow("doesn't fit");
  });
});

test("once a snapshot has come, its size for each byte in memory counts", async () => {
  const { admission, state } = admitting({ available: 500 * MB });
  admission.weigh(undefined)!(info({ dataset: 400 * MB }));
  await admission.admit(undefined);
  state.snapshot = 100 * MB;
  admission.connected(true);
  state.available = 150 * MB;
  admission.weigh(undefined)!(info({ dataset: 600 * MB }));
  expect(() => admission.weigh(undefined)!(info({ dataset: 604 * MB }))).toThrow("about 144.0 MiB");
});

describe("where something is kept", () => {
  test("nothing is asked while there is room for four snapshots", () => {
    const { admission, state } = admitting({ snapshot: 25 * MB });
    expect(admission.weigh(RESUME)).toBeUndefined();
    state.available -= 1;
    expect(admission.weigh(RESUME)).toBeDefined();
  });

  test("a partial resync is never held back", () => {
    const { admission } = admitting({ snapshot: 90 * MB });
    admission.weigh(RESUME)!(info({ dataset: 500 * MB }));
    // It may not say, and then it most likely continues.
    admission.weigh(RESUME)!(undefined);
    admission.weigh(RESUME)!("# Memory\nused_memory_dataset:500000000\n");
  });

  test.each([
    ["the backlog no longer holds what comes next", { begin: 1_002 }],
    ["the history is another", { replid: "b".repeat(40) }],
  ])("a full one is, where %s", (_, differs) => {
    const { admission } = admitting({ snapshot: 90 * MB });
    const weigh = admission.weigh(RESUME)!;
    expect(() => weigh(info({ dataset: 500 * MB, ...differs }))).toThrow("doesn't fit");
    expect(() => weigh(info({ dataset: 5 * MB, ...differs }))).not.toThrow();
    // Without its size, the last one counts, which fits.
    expect(() => weigh(info({ ...differs }))).not.toThrow();
  });

  test("the last snapshot's size counts where the primary doesn't tell its own", () => {
    const { admission } = admitting({ snapshot: 101 * MB });
    expect(() => admission.weigh(RESUME)!(info({ begin: 1_002 }))).toThrow("about 96.3 MiB");
  });
});

describe("a full resync that is granted", () => {
  test("is broken off before anything is written where its size can't fit", async () => {
    const { admission, state } = admitting();
    await admission.admit(100 * MB);
    expect(state.made).toEqual([]);
    const error = await rejectionOf(() => admission.admit(100 * MB + 1));
    expect(error).toMatchObject({ code: "DISK_FULL", retry: "backoff" });
    expect(error.message).toMatch(/has 100000001 bytes, \/data has room for 100000000: make room/);
    expect(admission.refusedBytes).toBe(100 * MB + 1);
  });

  test.each([undefined, 90 * MB])(
    "costs no more than the room of its first bytes, and nothing guarded, before it comes: %s",
    async (totalBytes) => {
      const { admission, state } = admitting();
      Object.assign(state, { free: MIB, removable: 40 * MB, guarded: 60 * MB });
      await admission.admit(totalBytes);
      expect(state.made).toEqual([{ bytes: 2 * MIB, evenGuarded: false }]);
      expect(state.guarded).toBe(60 * MB);
    },
  );

  test("gets room as it comes: at once where it is there, guarded ones once all is used", async () => {
    const { admission, state } = admitting();
    const roomFor = await admission.admit(undefined);
    expect(roomFor(50 * MB, () => 0)).toBe(50 * MB);
    expect(state.made).toEqual([]);
    // What is queued will take its room.
    Object.assign(state, { free: 20 * MB, removable: 10 * MB, guarded: 60 * MB });
    expect(await roomFor(50 * MB, () => 5 * MB)).toBe(25 * MB - MIB);
    expect(state).toMatchObject({ free: 30 * MB, removable: 0, guarded: 60 * MB });
    state.free = 5 * MB + MIB;
    expect(await roomFor(50 * MB, () => 5 * MB)).toBe(MIB);
    expect(state.guarded).toBe(60 * MB - MIB);
    Object.assign(state, { free: 0, guarded: 0 });
    expect(await roomFor(50 * MB, () => 0)).toBeLessThanOrEqual(0);
  });
});

test("guarded ones stay where a removal came to nothing because the queue was written meanwhile", async () => {
  const { admission, state } = admitting();
  const roomFor = await admission.admit(undefined);
  Object.assign(state, { free: 10 * MB, removable: 0, guarded: 60 * MB });
  let queued = 10 * MB;
  const drained = () => {
    // Looked at after the first removal.
    if (state.made.length === 1 && queued > 0) {
      state.free -= queued;
      queued = 0;
      state.removable = 20 * MB;
    }
    return queued;
  };
  expect(await roomFor(50 * MB, drained)).toBe(20 * MB - MIB);
  expect(state.made.map(({ evenGuarded }) => evenGuarded)).toEqual([false, false]);
  expect(state.guarded).toBe(60 * MB);
});

describe("after one that didn't fit", () => {
  test("another attempt waits for room, or for a pause that doubles up to an hour", () => {
    const { admission, state } = admitting();
    const tryAgain = () => {
      admission.weigh(undefined)!(undefined);
    };
    const pauses: number[] = [];
    for (let n = 0; n < 14; n++) {
      admission.failed(FULL, brokenAt(100 * MB));
      let seconds = 0;
      for (; ; seconds++) {
        try {
          admission.weigh(undefined);
          break;
        } catch {
          state.ms += 1000;
        }
      }
      pauses.push(seconds);
    }
    expect(pauses.slice(0, 4)).toEqual([5, 10, 20, 40]);
    expect(pauses.at(-1)).toBe(3_600);
    admission.failed(FULL, brokenAt(100 * MB));
    expect(tryAgain).toThrow("doesn't fit");
    // A little more than what had come isn't enough.
    state.available = 112 * MB;
    expect(tryAgain).toThrow("doesn't fit");
    state.available = 113 * MB;
    tryAgain();
    admission.connected(true);
    state.available = 1 * MB;
    expect(admission.weigh(undefined)).toBeDefined();
  });

  test("a primary that tells its size is asked at each attempt, and what had come counts", () => {
    const { admission, state } = admitting();
    admission.weigh(undefined)!(info({ dataset: 90 * MB }));
    admission.failed(FULL, brokenAt(100 * MB, 160 * MB));
    expect(() => admission.weigh(undefined)!(info({ dataset: 90 * MB }))).toThrow("doesn't fit");
    // Half of the data: half of the snapshot.
    admission.weigh(undefined)!(info({ dataset: 45 * MB }));
    state.available = 160 * MB;
    admission.weigh(undefined)!(info({ dataset: 90 * MB }));
  });

  test("where the disk shows room for it all the same, as under a quota, it is only the pauses that count", () => {
    const { admission, state } = admitting({ available: 1_000 * MB });
    const again = (text: string | undefined) =>
      errorOfWeigh(() => admission.weigh(undefined)!(text));
    for (const text of [undefined, info({ dataset: 90 * MB })]) {
      admission.connected(true);
      const pauses: number[] = [];
      for (let n = 0; n < 12; n++) {
        let seconds = 0;
        for (; again(text) !== undefined; seconds++) state.ms += 1000;
        if (n > 0) pauses.push(seconds);
        admission.failed(FULL, brokenAt(100 * MB));
      }
      expect(pauses.slice(0, 4)).toEqual([5, 10, 20, 40]);
      expect(pauses.at(-1)).toBe(3_600);
      expect(again(text)).toMatch(/about 107\.3 MiB doesn't fit .* ever more rarely/);
    }
  });

  test("with --ask-primary no the last size counts, and the primary is not asked", () => {
    const { admission, state } = admitting({ askPrimary: false });
    expect(admission.weigh(undefined)).toBeUndefined();
    state.snapshot = 101 * MB;
    expect(() => admission.weigh(undefined)).toThrow("doesn't fit");
    state.available = 102 * MB;
    expect(admission.weigh(undefined)).toBeUndefined();
  });

  test("another primary is asked anew", () => {
    const { admission } = admitting();
    admission.failed(FULL, brokenAt(100 * MB));
    expect(() => admission.weigh(undefined)).toThrow("doesn't fit");
    admission.forget();
    expect(admission.weigh(undefined)).toBeDefined();
    expect(admission.refusal).toBeUndefined();
  });

  test("other errors, and other states, are no lack of room", () => {
    const { admission } = admitting();
    admission.failed(FULL, { at: "connect" });
    admission.failed(new ReplicaError("LINK_LOST", { message: "gone" }), brokenAt(100 * MB));
    expect(admission.refusal).toBeUndefined();
    expect(() => admission.weigh(undefined)!(undefined)).not.toThrow();
  });
});

/** Seconds until an attempt is let through, at one a second. */
function secondsUntil(state: { ms: number }, attempt: () => void): number {
  for (let seconds = 0; seconds < 10_000; seconds++) {
    try {
      attempt();
      return seconds;
    } catch {
      state.ms += 1000;
    }
  }
  return Infinity;
}

describe("a refusal that rests on an estimate alone", () => {
  test.each([
    ["the data in memory", () => info({ dataset: 200 * MB }), undefined],
    ["the last snapshot's size", () => undefined, 101 * MB],
  ])("ends after a pause that doubles up to an hour: %s", (_, says, snapshot) => {
    const { admission, state } = admitting({ snapshot });
    const attempt = () => admission.weigh(undefined)!(says());
    const pauses = Array.from({ length: 12 }, () => secondsUntil(state, attempt));
    expect(pauses.slice(0, 4)).toEqual([10, 20, 40, 80]);
    expect(pauses.at(-1)).toBe(3_600);
    expect(errorOf(attempt).message).toMatch(/ever more rarely, .*; make room/);
  });

  test("is one that stays once a transfer has borne it out, until there is less data", () => {
    const { admission, state } = admitting();
    const attempt = () => admission.weigh(undefined)!(info({ dataset: 200 * MB }));
    expect(secondsUntil(state, attempt)).toBe(10);
    admission.failed(FULL, brokenAt(100 * MB));
    expect(secondsUntil(state, attempt)).toBe(Infinity);
    expect(errorOf(attempt).message).toContain("not asked for one until there is room");
    admission.weigh(undefined)!(info({ dataset: 80 * MB }));
  });

  test("ends too where the primary doesn't tell its size and one has failed", () => {
    const { admission, state } = admitting();
    const attempt = () => admission.weigh(undefined)!(undefined);
    const pauses = Array.from({ length: 4 }, () => {
      admission.failed(FULL, brokenAt(100 * MB));
      return secondsUntil(state, attempt);
    });
    expect(pauses).toEqual([5, 10, 20, 40]);
  });

  test("is over, pauses and all, once the link is up", () => {
    const { admission, state } = admitting();
    const attempt = () => admission.weigh(undefined)!(info({ dataset: 200 * MB }));
    for (let n = 0; n < 3; n++) secondsUntil(state, attempt);
    admission.connected(false);
    expect(secondsUntil(state, attempt)).toBe(10);
  });
});

describe("after a restart", () => {
  /** A snapshot's file whose header says how much memory was in use. */
  async function baseWith(file: string, used: string): Promise<string> {
    const bytes = Buffer.from(`REDIS0011\xfa\x08used-mem\x09${used}\xff`, "latin1");
    await Bun.write(file, bytes);
    return file;
  }

  test("the memory in use that the kept snapshot names tells how large the next one is", async () => {
    using temp = tempDir("admission");
    const base = await baseWith(temp.file("base.rdb"), "400000000");
    const { admission } = admitting({ available: 90 * MB, snapshot: 40 * MB, base });
    const says = (used: number) => () =>
      admission.weigh(RESUME)!(info({ dataset: 300 * MB, used, begin: 1_002 }));
    expect(says(800 * MB)).not.toThrow();
    expect(says(1_000 * MB)).toThrow("about 95.4 MiB");
  });

  test.each(["400000000", "notnumber"])(
    "it never makes it larger than the data: %s",
    async (used) => {
      using temp = tempDir("admission");
      const base = await baseWith(temp.file("base.rdb"), used);
      const { admission } = admitting({ available: 90 * MB, snapshot: 80 * MB, base });
      const weigh = admission.weigh(RESUME)!;
      expect(() => weigh(info({ dataset: 91 * MB, used: 900 * MB, begin: 1_002 }))).toThrow(
        "about 86.8 MiB",
      );
    },
  );
});

test("what is bounded elsewhere is not held back, and its failure holds back nothing", () => {
  const { admission } = admitting({ snapshot: 200 * MB });
  expect(admission.weigh(undefined, true)).toBeUndefined();
  admission.failed(FULL, brokenAt(100 * MB));
  expect(admission.refusal).toBeUndefined();
  admission.weigh(RESUME)!(undefined);
});
