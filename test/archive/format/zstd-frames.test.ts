import { describe, expect, test } from "bun:test";
import {
  FRAME_BYTES,
  jsonBefore,
  jsonFrame,
  maxFramedBytes,
  partsIn,
  writeFrames,
} from "../../../src/archive/format/zstd-frames.ts";
import { type Codec, CODECS } from "../../../src/archive/format/documents.ts";
import { crc64 } from "../../../src/rdb/crc64.ts";
import { Random } from "../../../src/demo/random.ts";
import { runTool } from "../../support/archive-tools.ts";
import { errorOf, rejectionOf } from "../../support/error-of.ts";
import { gathered, inMemory } from "../../support/whole-objects.ts";
import { seedOf, swept } from "../../support/sweep.ts";

const SEED = seedOf("ZSTD_FRAMES_SEED", 1);
const PLACE = "file:///archive/x.zst";

async function toFrames(data: Uint8Array, codec: Codec): Promise<Buffer> {
  const room = Buffer.alloc(maxFramedBytes(data.length));
  const { bytes, crc64: sum } = await writeFrames(inMemory(data), codec, room);
  expect(sum).toBe(crc64(data));
  return room.subarray(0, bytes);
}

/** Bytes that compress a little. */
function dataOf(length: number): Buffer {
  const random = new Random(SEED);
  return Buffer.from(Uint8Array.from({ length }, () => random.below(7) * random.below(40)));
}

const decoded = async (stored: Uint8Array, maxBytes = 16 << 20) =>
  await gathered(partsIn(PLACE, stored, maxBytes).parts);

describe.each([...CODECS])("codec %s", (codec) => {
  test.each([
    1,
    255,
    256,
    257,
    65_791,
    65_792,
    128 * 1024,
    128 * 1024 + 1,
    FRAME_BYTES,
    FRAME_BYTES + 1,
  ])("gives %d bytes back", async (length) => {
    const data = dataOf(length);
    const stored = await toFrames(data, codec);
    expect(stored.length).toBeLessThanOrEqual(maxFramedBytes(length));
    expect(data.equals(await decoded(stored))).toBe(true);
    expect(data.equals(await decoded(Buffer.concat([jsonFrame({ a: 1 }), stored])))).toBe(true);
  });

  test("holds no more than its limit when nothing can be compressed", async () => {
    const data = crypto.getRandomValues(Buffer.alloc(65_536));
    const stored = await toFrames(data, codec);
    expect(stored.length).toBeLessThanOrEqual(maxFramedBytes(data.length));
  });

  test("cut short anywhere, it is refused", async () => {
    const stored = Buffer.concat([jsonFrame({ a: 1 }), await toFrames(dataOf(300_000), codec)]);
    const lengths = Array.from({ length: stored.length - 1 }, (_, at) => at + 1).filter(
      (at) => at < 100 || at > stored.length - 100 || at % 47 === 0,
    );
    const afterJson = jsonFrame({ a: 1 }).length;
    for (const length of swept(lengths, 40, new Random(SEED))) {
      if (length === afterJson) continue;
      const error = await rejectionOf(() => decoded(stored.subarray(0, length)));
      expect([length, error.code]).toEqual([length, "ARCHIVE_DAMAGED"]);
    }
  });

  test("with a byte changed, it is refused, or gives as much as before", async () => {
    const data = dataOf(20_000);
    const stored = await toFrames(data, codec);
    const places = Array.from(stored, (_, at) => at);
    for (const at of swept(places, 40, new Random(SEED))) {
      const changed = Buffer.from(stored);
      changed[at]! ^= 1 << new Random(SEED + at).below(8);
      const got = await decoded(changed).catch((error: unknown) =>
        errorOf(() => {
          throw error;
        }),
      );
      if (got instanceof Uint8Array) expect([at, got.length]).toEqual([at, data.length]);
      else expect([at, got.code]).toEqual([at, "ARCHIVE_DAMAGED"]);
    }
  });

  test("Debian's zstd reads it, header and all, and we read Debian's", async () => {
    const data = dataOf(FRAME_BYTES + 1000);
    const stored = Buffer.concat([jsonFrame({ a: 1 }), await toFrames(data, codec)]);
    expect(runTool("zstd", ["-dc"], Buffer.concat([stored, stored]))).toEqual(
      Buffer.concat([data, data]),
    );
    using file = await theirs(data);
    expect(data.equals(await decoded(runTool("zstd", ["-3", "-c", file.path])))).toBe(true);
  });
});

async function theirs(data: Uint8Array): Promise<{ path: string } & Disposable> {
  const { tempDir } = await import("../../support/temp.ts");
  const dir = tempDir("zstd");
  await Bun.write(dir.file("data"), data);
  // It tells the size only of a file.
  return { path: dir.file("data"), [Symbol.dispose]: () => dir.remove() };
}

describe("refuses", () => {
  test("a frame that claims gigabytes, before it makes room for them", async () => {
    const frame = await toFrames(dataOf(100_000), "zstd");
    const lying = Buffer.from(frame);
    lying.writeUInt32LE(0xffff_ffff, 5);
    const before = process.memoryUsage().rss;
    const error = await rejectionOf(() => decoded(lying));
    expect(error).toMatchObject({ code: "ARCHIVE_DAMAGED", retry: "never" });
    expect(error.message).toContain("4294967295 bytes");
    expect(process.memoryUsage().rss - before).toBeLessThan(512 << 20);
  });

  test("a frame that holds more or less than it claims", async () => {
    const frame = await toFrames(Buffer.alloc(100_000), "zstd");
    for (const claimed of [1000, 200_000]) {
      const lying = Buffer.from(frame);
      lying.writeUInt32LE(claimed, 5);
      expect(await rejectionOf(() => decoded(lying))).toMatchObject({ code: "ARCHIVE_DAMAGED" });
    }
  });

  test("more data than expected, in many frames", async () => {
    const frame = await toFrames(Buffer.alloc(1 << 20), "zstd");
    const many = Buffer.concat(Array.from({ length: 1000 }, () => frame));
    const error = await rejectionOf(() => decoded(many));
    expect(error.message).toContain("more than 16777216");
  });

  test("a frame that doesn't say how much it holds", async () => {
    const stored = runTool("zstd", ["-c"], dataOf(100_000));
    expect(await rejectionOf(() => decoded(stored))).toMatchObject({ code: "ARCHIVE_DAMAGED" });
  });

  test("what is no frame", async () => {
    for (const odd of [Buffer.from("REDIS0011 and more"), Buffer.alloc(100), Buffer.alloc(3, 1)])
      expect(await rejectionOf(() => decoded(odd))).toMatchObject({ code: "ARCHIVE_DAMAGED" });
  });
});

describe("the JSON before the data", () => {
  test("is read from its beginning alone", () => {
    const frame = jsonFrame({ some: "words" });
    for (let length = 0; length < frame.length; length++) {
      const found = jsonBefore(PLACE, frame.subarray(0, length), 1000);
      expect(found).toEqual({ needBytes: length < 8 ? 8 : frame.length });
    }
    expect(jsonBefore(PLACE, Buffer.concat([frame, frame]), 1000)).toEqual({
      text: '{"some":"words"}',
    });
  });

  test("is refused where it claims too much, and where there is none", async () => {
    const lying = Buffer.from(jsonFrame({}));
    lying.writeUInt32LE(0xffff_fff0, 4);
    expect(errorOf(() => jsonBefore(PLACE, lying, 1000)).code).toBe("ARCHIVE_DAMAGED");
    const frame = await toFrames(dataOf(100), "zstd");
    expect(errorOf(() => jsonBefore(PLACE, frame, 1000)).code).toBe("ARCHIVE_DAMAGED");
    const foreign = Buffer.from(jsonFrame({}));
    foreign.writeUInt32LE(0x184d2a50, 0);
    expect(errorOf(() => jsonBefore(PLACE, foreign, 1000)).code).toBe("ARCHIVE_DAMAGED");
  });
});
