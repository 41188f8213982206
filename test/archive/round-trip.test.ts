import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { joinSegments } from "../../src/archive/format/chain.ts";
import {
  ARCHIVE_DOCUMENT,
  ARCHIVE_FORMAT,
  type BaseDocument,
  decodeDocument,
  encodeDocument,
  MAX_DOCUMENT_BYTES,
} from "../../src/archive/format/documents.ts";
import { Decryption, Encryption } from "../../src/archive/format/encryption.ts";
import {
  ARCHIVE_KEY,
  BASE_FILE,
  baseFolder,
  GENERATION_FILE,
  generationKey,
  GENERATIONS,
  logFolder,
  newGenerationName,
  parseGenerationName,
  parsePieceName,
  parseSegmentName,
  pieceName,
  segmentName,
} from "../../src/archive/format/names.ts";
import { MAX_OBJECT_BYTES } from "../../src/archive/format/objects.ts";
import { type ObjectStore, sha256Of } from "../../src/archive/store/object-store.ts";
import { openStore } from "../../src/archive/store/open-store.ts";
import { realClock } from "../../src/base/clock.ts";
import { hex64 } from "../../src/base/hex64.ts";
import { Random } from "../../src/demo/random.ts";
import { crc64 } from "../../src/rdb/crc64.ts";
import { realFolderDisk } from "../../src/archive/store/folder-disk.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY } from "../support/fault-s3.ts";
import { tempDir } from "../support/temp.ts";
import {
  decodePiece,
  decodeSegment,
  encodePiece,
  encodeSegment,
} from "../support/whole-objects.ts";

const signal = new AbortController().signal;
const BASE_OFFSET = 5_000;
const SELECT = Buffer.from("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
const random = new Random(1);
const rdb = Buffer.from(Uint8Array.from({ length: 100_000 }, () => random.below(20)));
const log = Buffer.concat([SELECT, Buffer.from("*1\r\n$4\r\nPING\r\n".repeat(5_000))]);

let server: FaultS3;
let encryption: Encryption;
let decryption: Decryption;
beforeAll(async () => {
  const identity = await generateX25519Identity();
  encryption = new Encryption([await identityToRecipient(identity)]);
  decryption = await Decryption.fromFile("keys.txt", identity);
  server = await FaultS3.start();
});
const dir = tempDir("archive");
afterAll(async () => {
  dir.remove();
  await server.stop();
});

function open(url: string): ObjectStore {
  const environment = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
  const credentials = () => Promise.reject(new Error("there are none"));
  const place = url.startsWith("s3:") ? { endpoint: server.endpoint } : {};
  return openStore(url, place, {
    clock: realClock,
    disk: realFolderDisk,
    environment,
    credentials,
  });
}

/** Writes a generation: a base in two pieces, and segments that end after so many bytes of the log. */
async function write(store: ObjectStore, cuts: readonly number[]): Promise<void> {
  const writer = { codec: "zstd", encryption } as const;
  const put = (key: string, bytes: Uint8Array) => store.put(key, bytes, signal);
  const name = newGenerationName(Date.UTC(2026, 10, 30), () => realClock.random());
  await put(ARCHIVE_KEY, encodeDocument("archive", ARCHIVE_DOCUMENT));
  const generation = {
    format: ARCHIVE_FORMAT,
    started: "2026-11-30T00:00:00Z",
    program: "replica 0.1.0",
    primary: "127.0.0.1:6379",
    replid: "a".repeat(40),
    baseOffset: BASE_OFFSET,
    codec: writer.codec,
    recipients: [...encryption.recipients],
  };
  await put(generationKey(name, GENERATION_FILE), encodeDocument("generation", generation));
  const pieces: BaseDocument["pieces"] = [];
  for (const [index, part] of [rdb.subarray(0, 60_000), rdb.subarray(60_000)].entries()) {
    const stored = await encodePiece(part, writer);
    const piece = pieceName(index, true);
    await put(`${baseFolder(name)}/${piece}`, stored);
    const sha256 = (await sha256Of(stored)).toString("hex");
    pieces.push({ name: piece, bytes: stored.length, sha256, rdbBytes: part.length });
  }
  const base = {
    format: ARCHIVE_FORMAT,
    finished: "2026-11-30T00:00:01Z",
    rdbBytes: rdb.length,
    rdbCrc64: hex64(crc64(rdb)),
    pieces,
  };
  await put(generationKey(name, BASE_FILE), encodeDocument("base", base));
  for (const [at, to] of cuts.entries()) {
    const from = cuts[at - 1] ?? 0;
    const start = from === 0 ? 0 : SELECT.length + from;
    const data = log.subarray(start, SELECT.length + to);
    const header = {
      from: BASE_OFFSET + from,
      to: BASE_OFFSET + to,
      crcFrom: crc64(log.subarray(0, start)),
      crcTo: crc64(log.subarray(0, SELECT.length + to)),
      bytes: data.length,
      marks: [],
      histories: [],
    };
    const segment = segmentName({ ...header, crc: header.crcTo }, true);
    await put(`${logFolder(name)}/${segment}`, await encodeSegment(header, data, writer));
  }
  // Foreign files are passed over.
  for (const folder of [GENERATIONS, baseFolder(name), logFolder(name)])
    await put(`${folder}/README`, Buffer.from("not ours"));
}

async function names(store: ObjectStore, folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { objects, folders } of store.list(folder, signal))
    found.push(...objects.map(({ name }) => name), ...folders);
  return found;
}

/** Reads a whole generation back, knowing nothing but the store and the identity. */
async function read(store: ObjectStore): Promise<{ base: Buffer; log: Buffer }> {
  const get = async (key: string, maxBytes: number, sha256?: string) =>
    (await store.get(key, { maxBytes, ...(sha256 === undefined ? {} : { sha256 }) }, signal))!;
  const [name = ""] = (await names(store, GENERATIONS)).filter(
    (found) => parseGenerationName(found) !== undefined,
  );
  const key = generationKey(name, BASE_FILE);
  const base = decodeDocument("base", key, await get(key, MAX_DOCUMENT_BYTES));
  const listed = (await names(store, baseFolder(name))).filter(
    (found) => parsePieceName(found) !== undefined,
  );
  expect(listed).toEqual(base.pieces.map((piece) => piece.name));
  const pieces: Uint8Array[] = [];
  for (const piece of base.pieces) {
    const place = `${baseFolder(name)}/${piece.name}`;
    const stored = await get(place, piece.bytes, piece.sha256);
    pieces.push(await decodePiece(place, piece.name, stored, decryption));
  }
  const segments = (await names(store, logFolder(name))).flatMap((file) => {
    const parsed = parseSegmentName(file);
    return parsed === undefined ? [] : [{ ...parsed, crcFrom: undefined, file }];
  });
  const chain = joinSegments({ offset: BASE_OFFSET, crc: 0n }, segments);
  expect(chain).toMatchObject({ forks: [], gap: undefined, unsure: [] });
  const parts: Uint8Array[] = [];
  for (const { file } of chain.segments) {
    const place = `${logFolder(name)}/${file}`;
    const { data } = await decodeSegment(
      place,
      file,
      await get(place, MAX_OBJECT_BYTES),
      decryption,
    );
    parts.push(data);
  }
  return { base: Buffer.concat(pieces), log: Buffer.concat(parts) };
}

describe.each(["s3://bucket/archive", `file://${dir.file("archive")}`])("%s", (url) => {
  test("gives base and log back from its objects alone", async () => {
    const store = open(url);
    await write(store, [14, 14_000, 14_028, 70_000]);
    const found = await read(open(url));
    expect(found.base.equals(rdb)).toBe(true);
    expect(found.log.equals(log)).toBe(true);
  });
});
