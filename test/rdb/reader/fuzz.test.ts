import { beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { RdbError } from "../../../src/rdb/reader/rdb-error.ts";
import { RdbReader } from "../../../src/rdb/reader/rdb-reader.ts";
import { fillEncodings } from "../../support/fill-encodings.ts";
import { Random } from "../../support/fill.ts";
import { len, rdbOf } from "../../support/rdb-bytes.ts";
import { availableServers, startServer } from "../../support/servers.ts";
import { amount, outermost, seedOf } from "../../support/sweep.ts";
import { CASES } from "./written-rdbs.ts";

const MUTATED = amount("RDB_FUZZ_CASES", { sample: 800, full: 8_000 });
const TIMEOUT_MS = 900_000;
const MAX_HELD_BYTES = 256 * 1024;
/** A reader's buffers, and what it holds of a key and of a value. */
const ROOM_BYTES = 16 * 1024 * 1024;
const COLLECT_EVERY = 200;
/** What so many cases leave to the collector at most: less than the least of the large lengths claims. */
const MAX_GARBAGE_BYTES = 1024 * 1024 * 1024;

/** Lengths at the limits of their forms, and ones that nothing has. */
const LENGTHS = [
  0,
  1,
  5,
  63,
  64,
  16_383,
  16_384,
  2 ** 31,
  2 ** 32 - 1,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** An RDB, and where in it something begins that decides how the rest is read. */
interface Seed {
  readonly rdb: Buffer;
  readonly places: readonly number[];
}

function seedOfRdb(rdb: Buffer): Seed {
  const places: number[] = [];
  const reader = new RdbReader({
    entry: ({ startByte, endByte, valueBytes }) => {
      places.push(startByte, endByte - valueBytes, endByte - valueBytes + 1);
    },
  });
  reader.push(rdb);
  reader.finish();
  return { rdb, places: places.length === 0 ? [9] : places };
}

function mutate({ rdb, places }: Seed, seeds: readonly Seed[], random: Random): Buffer {
  let bytes = rdb;
  const splice = (from: number, to: number, middle: Uint8Array) => {
    bytes = Buffer.concat([bytes.subarray(0, from), middle, bytes.subarray(to)]);
  };
  for (let changes = 1 + random.below(3); changes > 0; changes--) {
    const isAimed = random.below(2) === 0;
    const at = isAimed ? places[random.below(places.length)]! : 9 + random.below(bytes.length - 9);
    const some = 1 + random.below(random.below(4) === 0 ? 2000 : 12);
    switch (random.below(8)) {
      case 0:
        splice(at, at + 1, Buffer.from([(bytes[at] ?? 0) ^ (1 << random.below(8))]));
        break;
      case 1:
        splice(at, at + some, Buffer.alloc(0));
        break;
      case 2:
        splice(at, at, random.bytes(some));
        break;
      case 3:
        splice(at, at, bytes.subarray(at, at + some));
        break;
      case 4: {
        const length = LENGTHS[random.below(LENGTHS.length)]!;
        splice(at, at + 1, len(length, random.below(4) === 0 ? 9 : undefined));
        break;
      }
      case 5:
        splice(
          at,
          at + 1,
          Buffer.from([random.below(2) === 0 ? random.below(40) : 240 + random.below(16)]),
        );
        break;
      case 6: {
        const other = seeds[random.below(seeds.length)]!.rdb;
        const from = random.below(other.length);
        splice(at, at + some, other.subarray(from, from + some));
        break;
      }
      default:
        splice(at, bytes.length, Buffer.alloc(0));
    }
    if (bytes.length < 20) return bytes;
  }
  return bytes;
}

/** What comes of reading it: the keys, or the error's code. No other error passes. */
function outcome(rdb: Uint8Array, chunkBytes: number, checksum: boolean): string {
  const hash = new Bun.CryptoHasher("sha1");
  let keys = 0;
  const reader = new RdbReader(
    {
      entry(entry, value) {
        keys++;
        if (entry.endByte > rdb.length) throw new Error("a key ends after the RDB");
        hash.update(`${entry.kind} ${entry.encoding} ${entry.elements} ${entry.stringBytes} `);
        hash.update(`${entry.startByte} ${entry.endByte} ${entry.expiresAtMs} ${entry.module} `);
        hash.update(entry.key);
        if (value !== undefined) hash.update(value);
      },
      wants: (_, key) => key.length % 2 === 0,
      functionLibrary: (code) => void hash.update(code),
      aux: (name, value) => void hash.update(name).update(value ?? "long"),
    },
    { checksum, maxKeyBytes: MAX_HELD_BYTES, maxValueBytes: MAX_HELD_BYTES },
  );
  try {
    for (let at = 0; at < rdb.length; at += chunkBytes) {
      // A copy in memory of its own: reading past its end would be seen.
      reader.push(Uint8Array.from(rdb.subarray(at, at + chunkBytes)));
    }
    reader.finish();
  } catch (error) {
    if (!(error instanceof RdbError)) throw error;
    return `${error.code} after ${keys} keys: ${hash.digest("hex")}`;
  }
  return `${keys} keys: ${hash.digest("hex")}`;
}

describe("mutated RDBs", () => {
  const seeds: Seed[] = [];

  beforeAll(async () => {
    for (const { format, parts } of CASES) {
      const rdb = rdbOf(format, ...parts);
      if (rdb.length < 20_000) seeds.push(seedOfRdb(rdb));
    }
    for (const kind of outermost(availableServers())) {
      await using server = await startServer(kind);
      await fillEncodings(server, { keys: 150, seed: 1 });
      await server.send("SAVE");
      seeds.push(seedOfRdb(readFileSync(join(server.dir, "dump.rdb"))));
    }
  }, TIMEOUT_MS);

  test(
    `${MUTATED} of them are read or refused, alike in pieces of any length, in bounded memory`,
    () => {
      const random = new Random(seedOf("RDB_FUZZ_SEED"));
      const before = process.memoryUsage().arrayBuffers;
      let read = 0;
      for (let n = 0; n < MUTATED; n++) {
        const seed =
          seeds[random.below(random.below(20) === 0 ? seeds.length : CASES.length)] ??
          seeds.at(-1)!;
        const rdb = mutate(seed, seeds, random);
        const checksum = random.below(4) === 0;
        const whole = outcome(rdb, rdb.length, checksum);
        const pieces = outcome(rdb, 1 + random.below(200), checksum);
        if (pieces !== whole) {
          throw new Error(
            `case ${n}: ${whole} at once, ${pieces} in pieces: ${rdb.toString("hex")}`,
          );
        }
        if (!whole.startsWith("BAD")) read++;
        if (process.memoryUsage().arrayBuffers - before > MAX_GARBAGE_BYTES) {
          throw new Error(`case ${n} took memory by a length: ${rdb.toString("hex")}`);
        }
        if (n % COLLECT_EVERY === 0) {
          Bun.gc(true);
          expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(ROOM_BYTES);
        }
      }
      // Both happen: else the mutations would be too weak or too strong.
      expect(read).toBeGreaterThan(MUTATED / 100);
      expect(read).toBeLessThan(MUTATED / 2);
    },
    TIMEOUT_MS,
  );
});
