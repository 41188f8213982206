import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { join } from "node:path";
import { ReplicaError } from "../../../src/base/errors.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { restore } from "../../../src/store/restore/restore.ts";
import { restorePoint, type Wanted } from "../../../src/store/restore/restore-point.ts";
import { verifyCatalogue, verifyGeneration } from "../../../src/store/restore/verify.ts";
import { REPLID, smallRdb } from "../../integration/bad-input-rig.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../../support/fake-primary.ts";
import { follow } from "../../support/following.ts";
import { Random } from "../../support/fill.ts";
import { encodeCommand } from "../../support/resp.ts";
import { seedOf, swept } from "../../support/sweep.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import type { Damage } from "../../../src/store/restore/damage.ts";

/** Which bytes a sample of a sweep takes. */
const SEED = seedOf("DAMAGE_SEED");

const GENERATION = "generations/0000000001";
const BASE = `${GENERATION}/appendonly.aof.1.base.rdb`;
const LOG = `${GENERATION}/appendonly.aof.1.incr.aof`;
const MANIFEST = `${GENERATION}/appendonly.aof.manifest`;
const BASE_OFFSET = 100;

const STREAM = [
  ["SET", "key", "a value"],
  ["MULTI"],
  ["SELECT", "3"],
  ["SET", "in", "a transaction"],
  ["EXEC"],
  ["PING"],
  ["SET", "last", "x".repeat(40)],
].map((words) => encodeCommand(words));
const STREAM_BYTES = STREAM.reduce((sum, { length }) => sum + length, 0);

const options = {
  disk: realDisk,
  layout: "multipart",
  signal: new AbortController().signal,
  onProgress: () => undefined,
} as const;

const whole: Wanted = { generation: undefined, atMs: undefined, offset: undefined };

let made: TempDir;
let data: string;
let live: string;

/** Makes a real directory: a snapshot, and a stream with a mark for each command. */
beforeAll(async () => {
  made = tempDir("damage");
  await using primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: BASE_OFFSET });
    await peer.send(bulkPayload(smallRdb("a value of the snapshot")));
  });
  await using replica = follow(primary.url, realDisk, made, { fsync: "always" });
  await replica.connected();
  for (const [n, command] of STREAM.entries()) {
    await primary.peers[0]!.send(command);
    const sent = STREAM.slice(0, n + 1).reduce((sum, { length }) => sum + length, 0);
    await until(() => replica.replica.log?.durableOffset === BASE_OFFSET + sent, {
      what: "a sync",
    });
  }
  // As after a kill: the last marks are only in the database's WAL.
  live = made.file("live");
  fs.cpSync(replica.path, live, { recursive: true, verbatimSymlinks: true });
  expect(await replica.stop()).toBeUndefined();
  data = replica.path;
});

afterAll(() => made[Symbol.dispose]());

/** Copies the directory, to damage it. */
function copyTo(dir: TempDir, from = data): string {
  const path = dir.file("copy");
  fs.cpSync(from, path, { recursive: true, verbatimSymlinks: true });
  return path;
}

async function damagesOf(path: string): Promise<Damage[]> {
  using catalogue = new Catalogue(path);
  const damages = await verifyCatalogue(catalogue, options.signal);
  for (const generation of catalogue.generations) {
    damages.push(...(await verifyGeneration(catalogue, generation, options)).damages);
  }
  return damages;
}

async function restored(path: string, target: string, wanted: Partial<Wanted> = {}) {
  using catalogue = new Catalogue(path);
  return await restore(
    catalogue,
    restorePoint(catalogue, { ...whole, ...wanted }),
    target,
    options,
  );
}

async function refusal(path: string, target: string, wanted: Partial<Wanted> = {}) {
  const error = await restored(path, target, wanted).then(
    () => undefined,
    (failure: unknown) => failure,
  );
  expect(error).toBeInstanceOf(ReplicaError);
  expect(fs.readdirSync(join(target, ".."))).not.toContain(target.split("/").at(-1));
  return error as ReplicaError;
}

test("finds no damage in an untouched directory, and restores it byte for byte", async () => {
  using dir = tempDir("damage");
  const path = copyTo(dir);
  expect(await damagesOf(path)).toEqual([]);
  const { dir: target, offset, commands } = await restored(path, dir.file("target"));
  expect([offset, commands]).toEqual([BASE_OFFSET + STREAM_BYTES, STREAM.length]);
  for (const name of fs.readdirSync(join(target, "appendonlydir"))) {
    const found = fs.readFileSync(join(target, "appendonlydir", name));
    expect(found.equals(fs.readFileSync(join(path, GENERATION, name)))).toBe(true);
  }
});

/** The positions below `end` to try: in `npm test` one in twelve. */
function sweptTo(end: number): number[] {
  return swept([...Array(end).keys()], 12, new Random(SEED));
}

/** Changes one byte. */
function flip(file: string, at: number): void {
  const bytes = fs.readFileSync(file);
  bytes[at]! ^= 0x10;
  fs.writeFileSync(file, bytes);
}

/** Changes the bytes of a snapshot one after the other: each is found, and none restored. */
async function damageSnapshot(path: string, dir: TempDir): Promise<void> {
  const file = join(path, BASE);
  for (const at of sweptTo(fs.statSync(file).size)) {
    flip(file, at);
    const damages = await damagesOf(path);
    expect([at, damages]).toEqual([
      at,
      [expect.objectContaining({ file, meaning: expect.stringContaining("nothing") })],
    ]);
    const error = await refusal(path, dir.file("target"));
    expect([at, error.code]).toEqual([at, "DIRECTORY_DAMAGED"]);
    flip(file, at);
  }
  expect(await damagesOf(path)).toEqual([]);
}

test("finds any changed byte of the snapshot, and refuses to restore it", async () => {
  using dir = tempDir("damage");
  await damageSnapshot(copyTo(dir), dir);
}, 600_000);

test("finds any changed byte of a snapshot that states no checksum, and refuses to restore it", async () => {
  using dir = tempDir("damage");
  // As a primary with rdbchecksum off sends it.
  const rdb = smallRdb("a value of the snapshot");
  rdb.fill(0, rdb.length - 8);
  await using primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: BASE_OFFSET });
    await peer.send(bulkPayload(rdb));
  });
  await using replica = follow(primary.url, realDisk, dir);
  await replica.connected();
  expect(await replica.stop()).toBeUndefined();
  await damageSnapshot(replica.path, dir);
}, 600_000);

test("finds any changed byte of the log, and restores what lies before it", async () => {
  using dir = tempDir("damage");
  const path = copyTo(dir);
  const file = join(path, LOG);
  const original = fs.readFileSync(file);
  const header = original.length - STREAM_BYTES;
  for (const at of sweptTo(original.length)) {
    flip(file, at);
    const damages = await damagesOf(path);
    expect([at, damages.length, damages[0]?.file]).toEqual([at, 1, file]);
    expect(damages[0]!.byte!).toBeGreaterThanOrEqual(0);
    expect(damages[0]!.byte!).toBeLessThan(original.length);
    const target = dir.file("target");
    const error = await refusal(path, target);
    expect([at, error.code]).toEqual([at, "DIRECTORY_DAMAGED"]);
    // It names the last sound offset, and a restore up to there succeeds.
    const offset = Number(/--offset (\d+)/.exec(error.message)?.[1]);
    expect(damages[0]!.meaning).toContain(`--offset ${offset}`);
    expect(offset).toBeGreaterThanOrEqual(BASE_OFFSET);
    expect(offset - BASE_OFFSET + header).toBeLessThanOrEqual(Math.max(at, header));
    if (at >= header) {
      await restored(path, target, { offset });
      const log = fs.readFileSync(join(target, "appendonlydir", "appendonly.aof.1.incr.aof"));
      expect(original.subarray(0, log.length).equals(log)).toBe(true);
      fs.rmSync(target, { recursive: true });
    }
    flip(file, at);
  }
  expect(await damagesOf(path)).toEqual([]);
}, 600_000);

test("finds a log or a snapshot truncated anywhere, and names the byte", async () => {
  using dir = tempDir("damage");
  const path = copyTo(dir);
  for (const name of [BASE, LOG]) {
    const file = join(path, name);
    const original = fs.readFileSync(file);
    for (const bytes of sweptTo(original.length)) {
      fs.writeFileSync(file, original.subarray(0, bytes));
      const damages = await damagesOf(path);
      expect([bytes, damages]).toEqual([bytes, [expect.objectContaining({ file, byte: bytes })]]);
      const error = await refusal(path, dir.file("target"));
      expect([bytes, error.code]).toEqual([bytes, "DIRECTORY_DAMAGED"]);
    }
    fs.writeFileSync(file, original);
  }
}, 600_000);

describe("a restore without", () => {
  test("the manifest: reports it, and writes a new one", async () => {
    using dir = tempDir("damage");
    const path = copyTo(dir);
    fs.rmSync(join(path, MANIFEST));
    expect(await damagesOf(path)).toEqual([
      expect.objectContaining({ file: join(path, MANIFEST), what: "it is missing" }),
    ]);
    const { dir: target, warnings } = await restored(path, dir.file("target"));
    expect(warnings).toEqual([expect.stringContaining("appendonly.aof.manifest: it is missing")]);
    const manifest = fs.readFileSync(join(target, "appendonlydir/appendonly.aof.manifest"), "utf8");
    expect(manifest).toBe(fs.readFileSync(join(data, MANIFEST), "utf8"));
  });

  test.each([BASE, LOG])("%s", async (name) => {
    using dir = tempDir("damage");
    const path = copyTo(dir);
    fs.rmSync(join(path, name));
    expect(await damagesOf(path)).toEqual([
      expect.objectContaining({ file: join(path, name), what: "it is missing" }),
    ]);
    expect(await refusal(path, dir.file("target"))).toMatchObject({ code: "DIRECTORY_DAMAGED" });
    if (name === BASE) return;
    const snapshot = await restored(path, dir.file("snapshot"), { offset: BASE_OFFSET });
    const log = fs.readFileSync(join(snapshot.dir, "appendonlydir", "appendonly.aof.1.incr.aof"));
    expect([snapshot.commands, log.toString()]).toEqual([0, "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"]);
  });

  test("the link to the current generation: reports it, and needs none", async () => {
    using dir = tempDir("damage");
    const path = copyTo(dir);
    fs.rmSync(join(path, "current"));
    expect(await damagesOf(path)).toEqual([
      expect.objectContaining({ file: join(path, "current"), what: "it is missing" }),
    ]);
    expect((await restored(path, dir.file("target"))).commands).toBe(STREAM.length);
  });

  test("replica.db: reports it, and restores from the files up to the last whole command", async () => {
    using dir = tempDir("damage");
    const path = copyTo(dir);
    for (const suffix of ["", "-wal", "-shm"]) {
      fs.rmSync(join(path, `replica.db${suffix}`), { force: true });
    }
    // Half a command, as after a power cut.
    fs.appendFileSync(join(path, LOG), encodeCommand(["SET", "torn", "x"]).subarray(0, -5));
    expect(await damagesOf(path)).toEqual([
      expect.objectContaining({ file: join(path, "replica.db") }),
    ]);
    const { dir: target, commands } = await restored(path, dir.file("target"));
    expect(commands).toBe(STREAM.length);
    const log = fs.readFileSync(join(target, "appendonlydir", "appendonly.aof.1.incr.aof"));
    expect(log.equals(fs.readFileSync(join(data, LOG)))).toBe(true);
    const error = await refusal(path, dir.file("none"), { atMs: Date.now() });
    expect(error.message).toContain("times are unknown: use --offset instead of --at");
  });

  test("replica.db and the beginning of a snapshot: reports both", async () => {
    using dir = tempDir("damage");
    const path = copyTo(dir);
    for (const suffix of ["", "-wal", "-shm"]) {
      fs.rmSync(join(path, `replica.db${suffix}`), { force: true });
    }
    flip(join(path, BASE), 0);
    expect(await damagesOf(path)).toEqual([
      expect.objectContaining({ file: join(path, "replica.db") }),
      expect.objectContaining({ file: join(path, BASE) }),
    ]);
  });

  test("a part of replica.db: reports the damaged database", async () => {
    using dir = tempDir("damage");
    const path = copyTo(dir);
    fs.rmSync(join(path, "replica.db-wal"), { force: true });
    fs.rmSync(join(path, "replica.db-shm"), { force: true });
    fs.writeFileSync(join(path, "replica.db"), Buffer.alloc(8192, "x"));
    expect(() => new Catalogue(path)).toThrow(/replica\.db is damaged/);
  });
});

test("restores an offset up to the last whole command before it, never inside MULTI", async () => {
  using dir = tempDir("damage");
  const path = copyTo(dir);
  const ends = STREAM.map((_, n) =>
    STREAM.slice(0, n + 1).reduce((sum, { length }) => sum + length, BASE_OFFSET),
  );
  // No cut follows MULTI, SELECT or SET of the transaction.
  const cuts = [BASE_OFFSET, ...ends.filter((_, n) => n < 1 || n > 3)];
  for (const at of sweptTo(STREAM_BYTES + 1)) {
    const offset = BASE_OFFSET + at;
    const target = dir.file("target");
    const found = await restored(path, target, { offset });
    expect([offset, found.offset]).toEqual([offset, cuts.findLast((cut) => cut <= offset)!]);
    fs.rmSync(target, { recursive: true });
  }
}, 600_000);

describe("a changed byte of the database's WAL", () => {
  const PAGE_BYTES = 4096;
  const FRAME_BYTES = 24 + PAGE_BYTES;
  /** The number of frames of this round; older ones with other salts follow them. */
  const frames = () => {
    const wal = fs.readFileSync(join(live, "replica.db-wal"));
    const salts = (at: number) => wal.subarray(at, at + 8).toString("hex");
    let count = 0;
    while (salts(32 + FRAME_BYTES * count + 8) === salts(16)) count++;
    return count;
  };

  test("is found wherever it is, and never makes a start remove a followed generation", async () => {
    expect(frames()).toBeGreaterThan(6);
    let found = 0;
    for (let frame = 0; frame < frames(); frame++) {
      for (const within of [4, 10, 18, 24 + 2_000]) {
        using dir = tempDir("damage");
        const path = copyTo(dir, live);
        fs.rmSync(join(path, "replica.db-shm"), { force: true });
        flip(join(path, "replica.db-wal"), 32 + FRAME_BYTES * frame + within);
        {
          using catalogue = new Catalogue(path);
          const damages = await verifyCatalogue(catalogue, options.signal);
          // Nothing tells whether the last transaction was ever whole.
          if (frame < frames() - 4)
            expect([frame, within, damages.length > 0]).toEqual([frame, within, true]);
          found += damages.length > 0 ? 1 : 0;
        }
        try {
          new DataDirectory(path, realDisk, { now: () => Date.now() }).close();
        } catch (error) {
          expect(error).toMatchObject({ code: "DIRECTORY_DAMAGED" });
        }
        expect(fs.existsSync(join(path, LOG))).toBe(true);
        expect(fs.existsSync(join(path, BASE))).toBe(true);
      }
    }
    expect(found).toBeGreaterThan(20);
  }, 600_000);

  test.each([
    ["no row of the generation", "DELETE FROM generations"],
    [
      "a row from before it was whole",
      "UPDATE generations SET state = 'receiving', base_offset = NULL",
    ],
    ["a row from before it was current", "UPDATE generations SET state = 'receiving'"],
  ])(
    "leaves %s: a start refuses it, and a restore reads the files once the database is moved away",
    async (_, sql) => {
      using dir = tempDir("damage");
      const path = copyTo(dir);
      {
        using db = new Database(join(path, "replica.db"));
        db.run(sql);
      }
      expect(() => new DataDirectory(path, realDisk, { now: () => Date.now() })).toThrow(
        /lost the record of generation 1, whose folder is whole/,
      );
      expect(fs.existsSync(join(path, LOG))).toBe(true);
      for (const suffix of ["", "-wal", "-shm"])
        fs.rmSync(join(path, `replica.db${suffix}`), { force: true });
      expect((await restored(path, dir.file("target"))).commands).toBe(STREAM.length);
    },
  );
});

test("compares the SELECT at the beginning of the log with the snapshot's", async () => {
  using dir = tempDir("damage");
  const path = copyTo(dir);
  const file = join(path, LOG);
  const log = fs.readFileSync(file, "latin1");
  fs.writeFileSync(file, log.replace("$1\r\n0\r\n", "$1\r\n2\r\n"), "latin1");
  expect(await damagesOf(path)).toEqual([expect.objectContaining({ file, byte: 0 })]);
});
