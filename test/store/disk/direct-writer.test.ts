import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { reasonOf } from "../../support/error-of.ts";
import { Random } from "../../../src/demo/random.ts";
import { DirectWriter } from "../../../src/store/disk/direct-writer.ts";
import { OpenFile } from "../../../src/store/disk/open-file.ts";
import { Reservation } from "../../../src/store/disk/reservation.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";

const MIB = 1024 * 1024;
const BLOCK = 4 * MIB;
const SEED = 4;

function openFile(disk: FaultyDisk, path: string): OpenFile {
  try {
    return OpenFile.createDirect(disk, path);
  } catch {
    return OpenFile.create(disk, path);
  }
}

/** A writer past the page cache, where the file system of the temporary folder supports that. */
function open(disk: FaultyDisk, path: string, totalBytes?: number) {
  const told = { written: 0, failed: [] as unknown[] };
  const file = openFile(disk, path);
  const writer = new DirectWriter(file, new Reservation(file, totalBytes), {
    written: () => told.written++,
    failed: (cause) => told.failed.push(cause),
  });
  return { writer, told };
}

/** A disk whose writes end when the test resolves them. */
class PendingDisk extends FaultyDisk {
  readonly pending: PromiseWithResolvers<void>[] = [];

  override async write(fd: number, buffers: Uint8Array[], position: number): Promise<void> {
    const answer = Promise.withResolvers<void>();
    this.pending.push(answer);
    await answer.promise;
    await super.write(fd, buffers, position);
  }
}

const closed = (disk: FaultyDisk) =>
  until(() => disk.openFds.size === 0, { what: "every descriptor to be closed" });

describe("DirectWriter", () => {
  test("writes any length, in pieces of any length, and no other byte", async () => {
    const random = new Random(SEED);
    const bytes = Buffer.alloc(17 * MIB + 5);
    for (let at = 0; at + 4 < bytes.length; at += 4) bytes.writeInt32LE(random.below(2 ** 31), at);
    const lengths = [0, 1, 4095, 4096, 4097, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, bytes.length];
    for (const length of lengths) {
      using dir = tempDir();
      const disk = new FaultyDisk();
      const { writer, told } = open(disk, dir.file("file"));
      for (let at = 0; at < length;) {
        const next = Math.min(length, at + 1 + random.below(random.below(2) === 0 ? 700 : 900_000));
        writer.write(bytes.subarray(at, next));
        at = next;
      }
      await writer.finish();
      expect(writer.writtenBytes).toBe(length);
      expect(fs.readFileSync(dir.file("file")).equals(bytes.subarray(0, length))).toBe(true);
      expect(told.failed).toEqual([]);
      expect(disk.openFds.size).toBe(0);
    }
  });

  test("frees a copied chunk, unless others may hold a part of it", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { writer } = open(disk, dir.file("file"));
    const [whole, part, small] = [new Uint8Array(MIB), new Uint8Array(MIB), new Uint8Array(100)];
    writer.write(whole);
    writer.write(part.subarray(1));
    writer.write(small);
    expect([whole.length, part.length, small.length]).toEqual([0, MIB, 100]);
    await writer.finish();
    expect(fs.statSync(dir.file("file")).size).toBe(2 * MIB - 1 + 100);
  });

  test("asks for a pause when no block is free, until half of them are", async () => {
    using dir = tempDir();
    const disk = new PendingDisk();
    const { writer } = open(disk, dir.file("file"));
    for (let n = 0; n < 3; n++) writer.write(Buffer.alloc(BLOCK, n));
    expect(writer.congested).toBe(false);
    writer.write(Buffer.alloc(BLOCK + 10, 3));
    expect([writer.congested, disk.pending.length]).toEqual([true, 4]);
    const landed = async (n: number) => {
      const before = writer.writtenBytes;
      disk.pending[n]!.resolve();
      await until(() => writer.writtenBytes > before, { what: `block ${n}` });
    };
    // The first free block takes the waiting bytes.
    await landed(0);
    expect(writer.congested).toBe(true);
    await landed(1);
    expect(writer.congested).toBe(true);
    await landed(2);
    expect(writer.congested).toBe(false);
    disk.pending[3]!.resolve();
    const finishing = writer.finish();
    await until(() => disk.pending.length === 5, { what: "the last block" });
    disk.pending[4]!.resolve();
    await finishing;
    expect(fs.statSync(dir.file("file")).size).toBe(4 * BLOCK + 10);
  });

  test("does not count as written what lies after a block in flight", async () => {
    using dir = tempDir();
    const disk = new PendingDisk();
    const { writer, told } = open(disk, dir.file("file"));
    for (let n = 0; n < 3; n++) writer.write(Buffer.alloc(BLOCK, n));
    disk.pending[2]!.resolve();
    disk.pending[1]!.resolve();
    await until(() => told.written === 2, { what: "two blocks" });
    expect(writer.writtenBytes).toBe(0);
    disk.pending[0]!.resolve();
    await until(() => told.written === 3, { what: "the first block" });
    expect(writer.writtenBytes).toBe(3 * BLOCK);
    writer.abandon();
    await closed(disk);
  });

  test("reports a failed write once and again on finish, and closes on abandon", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk({ operation: "write", call: 2, code: "EIO" });
    const { writer, told } = open(disk, dir.file("file"));
    for (let n = 0; n < 3; n++) writer.write(Buffer.alloc(BLOCK, n));
    await until(() => told.failed.length === 1, { what: "the failure" });
    writer.write(Buffer.alloc(BLOCK));
    expect(await reasonOf(writer.finish())).toMatchObject({ code: "EIO" });
    expect(writer.writtenBytes).toBeLessThanOrEqual(BLOCK);
    expect(disk.count("write")).toBe(3);
    writer.abandon();
    await closed(disk);
    expect(told.failed).toHaveLength(1);
  });

  test("abandoned with blocks in flight, closes the descriptor after them", async () => {
    using dir = tempDir();
    const disk = new PendingDisk();
    const { writer, told } = open(disk, dir.file("file"));
    writer.write(Buffer.alloc(2 * BLOCK));
    writer.abandon();
    writer.write(Buffer.alloc(BLOCK));
    await Bun.sleep(5);
    expect([disk.openFds.size, disk.pending.length]).toEqual([1, 2]);
    for (const { resolve } of disk.pending) resolve();
    await closed(disk);
    expect(told).toEqual({ written: 0, failed: [] });
  });
});
