import { beforeAll, describe, expect, test } from "bun:test";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { type Codec, CODECS } from "../../../src/archive/format/documents.ts";
import { Decryption, Encryption } from "../../../src/archive/format/encryption.ts";
import { pieceName, segmentName } from "../../../src/archive/format/names.ts";
import {
  decodeSegmentHeader,
  HEADER_READ_BYTES,
  MAX_OBJECT_BYTES,
  PIECE_BYTES,
  type SegmentHeader,
} from "../../../src/archive/format/objects.ts";
import { Random } from "../../../src/demo/random.ts";
import { crc64 } from "../../../src/rdb/crc64.ts";
import { runTool } from "../../support/archive-tools.ts";
import { rejectionOf, thrownBy } from "../../support/error-of.ts";
import { seedOf, swept } from "../../support/sweep.ts";
import { tempDir } from "../../support/temp.ts";
import {
  decodePiece,
  decodeSegment,
  encodePiece,
  encodeSegment,
} from "../../support/whole-objects.ts";

const SEED = seedOf("OBJECTS_SEED", 1);
const PLACE = "s3://bucket/archive/x";
const SELECT = Buffer.from("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
const BASE_OFFSET = 1_000_000;
const SECRET = "correct horse battery staple";

let identity: string;
let encryption: Encryption;
let decryption: Decryption;
beforeAll(async () => {
  identity = await generateX25519Identity();
  encryption = new Encryption([await identityToRecipient(identity)]);
  decryption = await Decryption.fromFile("keys.txt", identity);
});

/** A log: the SELECT, then commands. */
function logOf(bytes: number): Buffer {
  const set = (at: number) =>
    `*3\r\n$3\r\nSET\r\n$5\r\nk${String(at).padStart(4, "0")}\r\n$28\r\n${SECRET}\r\n`;
  const commands = Array.from({ length: Math.ceil(bytes / 50) }, (_, at) => set(at % 10_000));
  return Buffer.concat([SELECT, Buffer.from(commands.join(""))]).subarray(0, SELECT.length + bytes);
}

/** The header of the part of a log that ends `to` bytes behind its base, from `from` on. */
function headerOf(
  log: Buffer,
  from: number,
  to: number,
  more: Partial<SegmentHeader> = {},
): SegmentHeader {
  const place = (offset: number) => (offset === 0 ? 0 : SELECT.length + offset);
  return {
    from: BASE_OFFSET + from,
    to: BASE_OFFSET + to,
    crcFrom: crc64(log.subarray(0, place(from))),
    crcTo: crc64(log.subarray(0, place(to))),
    bytes: place(to) - place(from),
    marks: [
      { timeMs: 1_700_000_000_000, offset: BASE_OFFSET + from + 1 },
      { timeMs: 1_700_000_001_000, offset: BASE_OFFSET + to },
    ],
    histories: [{ replid: "b".repeat(40), fromOffset: BASE_OFFSET + from }],
    ...more,
  };
}

const dataOf = (log: Buffer, from: number, to: number) =>
  log.subarray(from === 0 ? 0 : SELECT.length + from, SELECT.length + to);
const nameOf = ({ from, to, crcTo }: SegmentHeader, isEncrypted: boolean) =>
  segmentName({ from, to, crc: crcTo }, isEncrypted);

const ways: [Codec, boolean][] = CODECS.flatMap((codec): [Codec, boolean][] => [
  [codec, false],
  [codec, true],
]);

describe.each(ways)("codec %s, encrypted: %p", (codec, isEncrypted) => {
  const writer = () => ({ codec, encryption: isEncrypted ? encryption : undefined });
  const reader = () => (isEncrypted ? decryption : undefined);

  test("a piece is read as it was written", async () => {
    for (const length of [1, 100_000, PIECE_BYTES]) {
      const data = logOf(length).subarray(0, length);
      const stored = await encodePiece(data, writer());
      expect(stored.length).toBeLessThanOrEqual(MAX_OBJECT_BYTES);
      const read = await decodePiece(PLACE, pieceName(0, isEncrypted), stored, reader());
      expect(data.equals(read)).toBe(true);
    }
  });

  test("segments are read as they were written, header alone or with their data", async () => {
    const log = logOf(500_000);
    for (const [from, to] of [
      [0, 1],
      [0, 200_000],
      [200_000, 200_001],
      [200_001, 500_000],
    ] as const) {
      const header = headerOf(log, from, to);
      const data = dataOf(log, from, to);
      const stored = await encodeSegment(header, data, writer());
      const name = nameOf(header, isEncrypted);
      const read = await decodeSegment(PLACE, name, stored, reader());
      expect(read.header).toEqual(header);
      expect(data.equals(read.data)).toBe(true);
      const beginning = stored.subarray(0, HEADER_READ_BYTES);
      const isWhole = beginning.length === stored.length;
      const alone = await decodeSegmentHeader(
        PLACE,
        name,
        Uint8Array.from(beginning),
        isWhole,
        reader(),
      );
      expect(alone).toEqual(header);
    }
  });

  test("a long header is read with as much as it says that it needs", async () => {
    const log = logOf(500_000);
    const marks = Array.from({ length: 20_000 }, (_, at) => ({
      timeMs: at,
      offset: BASE_OFFSET + at,
    }));
    const header = headerOf(log, 0, 500_000, { marks });
    const stored = await encodeSegment(header, dataOf(log, 0, 500_000), writer());
    const name = nameOf(header, isEncrypted);
    const read = (bytes: number) =>
      decodeSegmentHeader(
        PLACE,
        name,
        Uint8Array.from(stored.subarray(0, bytes)),
        bytes >= stored.length,
        reader(),
      );
    const need = await read(HEADER_READ_BYTES);
    if (!("needBytes" in need)) throw new Error("it was short");
    expect(await read(need.needBytes)).toEqual(header);
  });

  test("cut short anywhere, or with a byte changed, a segment is refused", async () => {
    const log = logOf(3000);
    const header = headerOf(log, 0, 3000);
    const stored = await encodeSegment(header, dataOf(log, 0, 3000), writer());
    const name = nameOf(header, isEncrypted);
    const places = Array.from(stored, (_, at) => at);
    for (const at of swept(places, 30, new Random(SEED))) {
      const changed = Buffer.from(stored);
      changed[at]! ^= 1 << new Random(SEED + at).below(8);
      for (const odd of [stored.subarray(0, at), changed]) {
        const read = decodeSegment(PLACE, name, odd, reader()).then(
          (got) => ({ ...got, code: "read" }),
          (error: { code: string }) => error,
        );
        const got = await read;
        // Only what the checksum doesn't cover may differ: a time in the description.
        if (got.code === "read" && "data" in got) {
          expect([at, odd.length]).toEqual([at, stored.length]);
          expect(dataOf(log, 0, 3000).equals(got.data)).toBe(true);
        } else
          expect([at, got.code]).toEqual([
            at,
            expect.stringMatching(/^(?:ARCHIVE_DAMAGED|USAGE)$/),
          ]);
      }
    }
  });

  test("a segment under another's name is refused", async () => {
    const log = logOf(300);
    const header = headerOf(log, 0, 300);
    const stored = await encodeSegment(header, dataOf(log, 0, 300), writer());
    for (const other of [{ from: header.from + 1 }, { to: header.to + 1 }, { crcTo: 1n }]) {
      const name = nameOf({ ...header, ...other }, isEncrypted);
      const error = await rejectionOf(() => decodeSegment(PLACE, name, stored, reader()));
      expect(error).toMatchObject({ code: "ARCHIVE_DAMAGED" });
      expect(error.message).toContain("renamed");
    }
  });

  test("Debian's age and zstd alone give base and log back", async () => {
    using dir = tempDir("objects");
    await Bun.write(dir.file("keys.txt"), identity);
    const opened = (stored: Uint8Array) =>
      isEncrypted ? runTool("age", ["-d", "-i", dir.file("keys.txt")], stored) : stored;
    const log = logOf(9_000_000);
    const cuts = [0, 1, 4_500_000, 9_000_000];
    const segments: Uint8Array[] = [];
    for (let at = 1; at < cuts.length; at++) {
      const [from, to] = [cuts[at - 1]!, cuts[at]!];
      const header = headerOf(log, from, to);
      segments.push(opened(await encodeSegment(header, dataOf(log, from, to), writer())));
    }
    expect(runTool("zstd", ["-dc"], Buffer.concat(segments)).equals(log)).toBe(true);
    const pieces: Uint8Array[] = [];
    for (const part of [log.subarray(0, 5_000_000), log.subarray(5_000_000)])
      pieces.push(opened(await encodePiece(part, writer())));
    expect(runTool("zstd", ["-dc"], Buffer.concat(pieces)).equals(log)).toBe(true);
  });
});

test("no known plaintext is in any encrypted object, under either codec", async () => {
  const log = logOf(200_000);
  for (const codec of CODECS) {
    const header = headerOf(log, 0, 200_000);
    const data = dataOf(log, 0, 200_000);
    for (const [isEncrypted, expected] of [
      [false, codec === "none"],
      [true, false],
    ] as const) {
      const writer = { codec, encryption: isEncrypted ? encryption : undefined };
      for (const stored of [
        await encodePiece(data, writer),
        await encodeSegment(header, data, writer),
      ]) {
        const found = [SECRET, "SELECT", "k0001"].some((known) =>
          Buffer.from(stored).includes(known),
        );
        expect([codec, isEncrypted, found]).toEqual([codec, isEncrypted, found && !isEncrypted]);
        if (expected) expect(found).toBe(true);
        if (isEncrypted)
          for (const known of ['"marks"', "b".repeat(40), "\x28\xb5\x2f\xfd"])
            expect(Buffer.from(stored).includes(Buffer.from(known, "latin1"))).toBe(false);
      }
    }
  }
});

test("an encrypted object without an identity is one clear line", async () => {
  const stored = await encodePiece(Buffer.from("x"), { codec: "zstd", encryption });
  const error = await rejectionOf(() => decodePiece(PLACE, pieceName(0, true), stored, undefined));
  expect(error).toMatchObject({ code: "USAGE", retry: "never" });
  expect(error.message).toBe(
    `${PLACE} is encrypted: name the file of the age identity that reads it (--archive-identity)`,
  );
});

describe("a header that can't be", () => {
  test.each<[string, Partial<SegmentHeader>]>([
    ["ends before it begins", { to: BASE_OFFSET }],
    ["holds too few bytes", { bytes: 299 }],
    ["holds more than a SELECT besides", { bytes: 300 + 65 }],
    ["has a mark outside", { marks: [{ timeMs: 1, offset: BASE_OFFSET + 301 }] }],
    [
      "has marks that run backwards",
      {
        marks: [
          { timeMs: 1, offset: BASE_OFFSET + 20 },
          { timeMs: 2, offset: BASE_OFFSET + 10 },
        ],
      },
    ],
    ["has a history before it", { histories: [{ replid: "c".repeat(40), fromOffset: 1 }] }],
  ])("%s: it is not written", async (_name, wrong) => {
    const log = logOf(300);
    const header = { ...headerOf(log, 0, 300), ...wrong };
    const writer = { codec: "none", encryption: undefined } as const;
    expect(await thrownBy(encodeSegment(header, dataOf(log, 0, 300), writer))).toThrow("invariant");
  });
});
