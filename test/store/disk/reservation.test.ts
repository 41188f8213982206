import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { thrownBy } from "../../support/error-of.ts";
import { OpenFile } from "../../../src/store/disk/open-file.ts";
import { createPayloadFile, openWriter } from "../../../src/store/disk/payload-file.ts";
import { Reservation } from "../../../src/store/disk/reservation.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

/** A disk that records what is reserved, and may refuse it: like tmpfs, or like ext4, which makes the file longer all the same. */
class ReservingDisk extends FaultyDisk {
  readonly reserved: { position: number; bytes: number }[] = [];
  refusal: "none" | "as tmpfs" | "as ext4" = "none";
  free = 1024 * GIB;

  constructor() {
    super();
    const { reserve } = this;
    Object.assign(this, {
      reserve: (fd: number, position: number, bytes: number) => {
        this.reserved.push({ position, bytes });
        if (this.refusal === "as ext4") fs.ftruncateSync(fd, position + bytes);
        return this.refusal === "none" && reserve(fd, position, bytes);
      },
    });
  }

  override freeBytes(path: string): number {
    super.freeBytes(path);
    return this.free;
  }
}

function reservation(totalBytes: number | undefined) {
  const disk = new ReservingDisk();
  const dir = tempDir("reservation");
  const file = OpenFile.create(disk, dir.file("file"));
  return {
    disk,
    ahead: new Reservation(file, totalBytes),
    [Symbol.dispose]: () => {
      file.closeQuietly();
      dir.remove();
    },
  };
}

describe("Reservation", () => {
  test("is as much again as has come, up to 64 MiB", () => {
    using at = reservation(undefined);
    at.ahead.cover(4 * MIB - 1);
    expect(at.ahead.bytes).toBe(0);
    for (const [end, until] of [
      [4, 8],
      [8, 8],
      [9, 18],
      [100, 164],
      [164, 164],
      [165, 229],
    ] as const) {
      at.ahead.cover(end * MIB);
      expect(at.ahead.bytes).toBe(until * MIB);
    }
    expect(at.disk.reserved).toEqual([
      { position: 0, bytes: 8 * MIB },
      { position: 8 * MIB, bytes: 10 * MIB },
      { position: 18 * MIB, bytes: 146 * MIB },
      { position: 164 * MIB, bytes: 65 * MIB },
    ]);
  });

  test("never is more than the payload has", () => {
    using at = reservation(10 * MIB + 1);
    at.ahead.cover(8 * MIB);
    expect(at.ahead.bytes).toBe(10 * MIB + 1);
    at.ahead.cover(12 * MIB);
    expect(at.disk.reserved).toHaveLength(1);
  });

  test("is not tried again where the file system refuses", () => {
    using at = reservation(undefined);
    at.disk.refusal = "as tmpfs";
    at.ahead.cover(8 * MIB);
    at.ahead.cover(90 * MIB);
    expect(at.ahead.bytes).toBe(0);
    expect(at.disk.reserved).toHaveLength(1);
  });

  test("takes none of the last GiB", () => {
    using at = reservation(undefined);
    at.disk.free = GIB + 8 * MIB;
    at.ahead.cover(4 * MIB);
    expect(at.ahead.bytes).toBe(8 * MIB);
    at.disk.free = GIB + 10 * MIB - 1;
    at.ahead.cover(9 * MIB);
    at.disk.free = 1024 * GIB;
    at.ahead.cover(90 * MIB);
    expect(at.ahead.bytes).toBe(8 * MIB);
    expect(at.disk.reserved).toHaveLength(1);
  });
});

describe.each(["direct", "buffered"] as const)("a payload written %s", (io) => {
  const bytes = Buffer.alloc(9 * MIB + 5, "payload ");

  async function write(
    disk: ReservingDisk,
    path: string,
    totalBytes: number | undefined,
    payload = bytes,
  ) {
    const file = await createPayloadFile(disk, path, io);
    let room = Promise.withResolvers<void>();
    const writer = openWriter(file, totalBytes, MIB, {
      written: () => room.resolve(),
      failed: (cause) => room.reject(cause),
    });
    let most = 0;
    for (let at = 0; at < payload.length; at += 64 * 1024) {
      writer.write(payload.subarray(at, at + 64 * 1024));
      expect(writer.reservedBytes).toBeGreaterThanOrEqual(writer.writtenBytes);
      most = Math.max(most, writer.reservedBytes);
      while (writer.congested) {
        await room.promise;
        room = Promise.withResolvers();
      }
    }
    return { writer, most };
  }

  test.each([
    ["of known length", bytes.length],
    ["of unknown length", undefined],
    // A primary may announce more than it sends.
    ["shorter than announced", 2 * bytes.length],
  ])("%s ends where its bytes end", async (_, totalBytes) => {
    using dir = tempDir("reservation");
    const disk = new ReservingDisk();
    const { writer, most } = await write(disk, dir.file("file"), totalBytes);
    expect(most).toBeGreaterThanOrEqual(8 * MIB);
    await writer.finish();
    expect(fs.readFileSync(dir.file("file")).equals(bytes)).toBe(true);
    expect(disk.openFds.size).toBe(0);
  });

  test.each(["as tmpfs", "as ext4"] as const)(
    "is the same where nothing can be reserved, %s",
    async (refusal) => {
      using dir = tempDir("reservation");
      const disk = new ReservingDisk();
      disk.refusal = refusal;
      // One that ends in the middle of a block, and one that doesn't.
      for (const length of [bytes.length, 8 * MIB]) {
        const path = dir.file(String(length));
        const { writer } = await write(disk, path, undefined, bytes.subarray(0, length));
        await writer.finish();
        expect(fs.readFileSync(path).equals(bytes.subarray(0, length))).toBe(true);
      }
    },
  );

  test("is the same where a refusal can't be undone at once", async () => {
    using dir = tempDir("reservation");
    const disk = new ReservingDisk();
    disk.refusal = "as ext4";
    // The first one of direct I/O follows its trial.
    disk.fail({ operation: "truncate", code: "EIO", call: io === "direct" ? 2 : 1 });
    const { writer } = await write(disk, dir.file("file"), undefined, bytes.subarray(0, 8 * MIB));
    await writer.finish();
    expect(fs.readFileSync(dir.file("file")).equals(bytes.subarray(0, 8 * MIB))).toBe(true);
  });

  test("is the same where nobody knows what is free", async () => {
    using dir = tempDir("reservation");
    const disk = new ReservingDisk();
    disk.fail({ operation: "freeBytes", code: "EIO" });
    const { writer } = await write(disk, dir.file("file"), undefined);
    await writer.finish();
    expect(fs.readFileSync(dir.file("file")).equals(bytes)).toBe(true);
    expect(disk.reserved).toEqual([]);
  });

  test("fails where what was reserved too much can't be cut off", async () => {
    using dir = tempDir("reservation");
    const disk = new ReservingDisk();
    const { writer } = await write(disk, dir.file("file"), undefined);
    disk.fail({ operation: "truncate", code: "EIO" });
    expect(await thrownBy(writer.finish())).toThrow("EIO");
    writer.abandon();
  });
});

test("a payload through the page cache is passed on to the disk as it comes, and leaves nothing in the cache", async () => {
  using dir = tempDir("hints");
  const told: string[] = [];
  const disk = Object.assign(new FaultyDisk(), {
    startWriteback: (_: number, position: number, bytes: number) =>
      told.push(`begin ${position / MIB} ${bytes / MIB}`),
    dropCached: (_: number, position: number, bytes: number) =>
      told.push(`drop ${position / MIB} ${bytes / MIB}`),
  });
  const file = await createPayloadFile(disk, dir.file("file"), "buffered");
  const writer = openWriter(file, undefined, 64 * MIB, {
    written: () => undefined,
    failed: (cause) => told.push(String(cause)),
  });
  writer.write(Buffer.alloc(MIB));
  writer.write(Buffer.alloc(2 * MIB));
  await until(() => writer.writtenBytes === 3 * MIB, { what: "3 MiB to be written" });
  await writer.sync();
  writer.write(Buffer.alloc(MIB / 2));
  await until(() => writer.writtenBytes === 3.5 * MIB, { what: "the rest to be written" });
  await writer.finish();
  expect(told).toEqual(["begin 0 1", "begin 1 2", "drop 0 3", "drop 3 0.5"]);
});
