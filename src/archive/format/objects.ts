import * as z from "zod";
import { invariant } from "../../base/errors.ts";
import { hex64 } from "../../base/hex64.ts";
import type { Offset } from "../../base/history.ts";
import { Crc64, crc64OfBoth } from "../../rdb/crc64.ts";
import { objectBuffer } from "../store/object-buffers.ts";
import { damaged } from "../store/object-store.ts";
import type { Codec } from "./documents.ts";
import {
  type Decryption,
  type Encryption,
  identityMissing,
  maxEncryptedBytes,
} from "./encryption.ts";
import { isEncryptedName, parseSegmentName } from "./names.ts";
import {
  jsonBefore,
  jsonFrame,
  maxFramedBytes,
  partsIn,
  type PlainData,
  writeFrames,
} from "./zstd-frames.ts";

/** The bytes of an RDB in one piece. */
export const PIECE_BYTES = 16 * 1024 * 1024;
/** The most bytes of a log in one segment. */
export const SEGMENT_BYTES = 16 * 1024 * 1024;
/** The log begins with a SELECT that the stream doesn't count. */
const SELECT_BYTES = 64;
/** A mark takes some 50 bytes, and there is at most one a second: a quiet day has 86,400. */
export const MAX_HEADER_BYTES = 8 * 1024 * 1024;
/** What is read of a segment to learn its header: most are that short, and with encryption it is a chunk. */
export const HEADER_READ_BYTES = 128 * 1024;

/** The most bytes that a piece or a segment has in the store: what a reader makes room for. */
export const MAX_OBJECT_BYTES = maxEncryptedBytes(
  maxFramedBytes(Math.max(PIECE_BYTES, SEGMENT_BYTES + SELECT_BYTES)) + MAX_HEADER_BYTES + 8,
);

const offset = z
  .int()
  .min(0)
  .max(2 ** 52);
const crc = z.string().regex(/^[0-9a-f]{16}$/);
const segmentHeader = z.object({
  from: offset,
  to: offset,
  crcFrom: crc,
  crcTo: crc,
  bytes: z.int().min(1),
  marks: z.array(z.object({ timeMs: z.int().min(0), offset })),
  histories: z.array(
    z.object({ replid: z.string().regex(/^[0-9A-Za-z]{40}$/), fromOffset: offset }),
  ),
});

/** What a segment says of itself. */
export interface SegmentHeader {
  /** The offset of the last byte before it, and of its last byte. */
  readonly from: Offset;
  readonly to: Offset;
  /** The CRC64 of the log from its first byte up to `from` and up to `to`. */
  readonly crcFrom: bigint;
  readonly crcTo: bigint;
  /** The bytes of the log in it; in the first one more than from `from` to `to`, by the SELECT. */
  readonly bytes: number;
  /** What was written when: milliseconds since 1970, and the last byte that was written then. In their order. */
  readonly marks: readonly { readonly timeMs: number; readonly offset: Offset }[];
  /** The replication ids that begin inside, each with the offset from which on it holds. */
  readonly histories: readonly { readonly replid: string; readonly fromOffset: Offset }[];
}

/** A segment that is read. */
export interface DecodedSegment {
  readonly header: SegmentHeader;
  /** Its data; each part is gone once the next is asked for. */
  readonly parts: AsyncGenerator<Uint8Array, void>;
}

/** How objects are written. */
export interface ObjectWriter {
  readonly codec: Codec;
  /** Undefined: they are not encrypted. */
  readonly encryption: Encryption | undefined;
}

/** An object that was made; `recycle` it once it is stored. */
export interface EncodedObject {
  readonly body: Uint8Array;
  /** The CRC64 of the data in it. */
  readonly crc64: bigint;
}

/** Makes the object of a piece of a base. @throws what `data` throws. */
export async function encodePiece(data: PlainData, writer: ObjectWriter): Promise<EncodedObject> {
  invariant(data.bytes > 0 && data.bytes <= PIECE_BYTES, "a piece has 1 byte to 16 MiB");
  return await encoded(data, writer, () => new Uint8Array(0));
}

/**
 * Takes the piece of a base out of its object, part by part.
 * @param name its name in the folder, which tells whether it is encrypted.
 * @param stored the object. It is read as parts are asked for, and is not what it was any more.
 * @throws ReplicaError ARCHIVE_DAMAGED, the parts too; USAGE where no identity reads it.
 */
export async function decodePiece(
  place: string,
  name: string,
  stored: Uint8Array,
  decryption: Decryption | undefined,
): Promise<ReturnType<typeof partsIn>> {
  const plain = await decrypted(place, name, stored, decryption, true);
  return partsIn(place, plain, PIECE_BYTES);
}

/**
 * Makes the object of a segment: its header in a frame that zstd passes over, then its data.
 * @param header without what is known only once the data was read.
 * @throws what `data` throws.
 */
export async function encodeSegment(
  header: Omit<SegmentHeader, "crcTo">,
  data: PlainData,
  writer: ObjectWriter,
): Promise<EncodedObject & { readonly crcTo: bigint }> {
  const isSound =
    data.bytes === header.bytes &&
    data.bytes <= SEGMENT_BYTES + SELECT_BYTES &&
    faultOf(header) === undefined;
  invariant(isSound, "a segment's header fits its data");
  const { from, to, crcFrom, ...rest } = header;
  const crcTo = (crc: bigint) => crc64OfBoth(crcFrom, crc, data.bytes);
  // As long whatever the checksum is.
  const frameOf = (crc: bigint) =>
    jsonFrame({ from, to, crcFrom: hex64(crcFrom), crcTo: hex64(crcTo(crc)), ...rest });
  const made = await encoded(data, writer, frameOf);
  return { ...made, crcTo: crcTo(made.crc64) };
}

/**
 * Takes a segment out of its object, its data part by part.
 * @param name its name in the folder, which must say the same as its header.
 * @param stored the object. It is read as parts are asked for, and is not what it was any more.
 * @returns its header, and its data; after the last part, this is checked against the checksums of both ends.
 * @throws ReplicaError ARCHIVE_DAMAGED; USAGE where no identity reads it.
 */
export async function decodeSegment(
  place: string,
  name: string,
  stored: Uint8Array,
  decryption: Decryption | undefined,
): Promise<DecodedSegment> {
  const plain = await decrypted(place, name, stored, decryption, true);
  const found = jsonBefore(place, plain, MAX_HEADER_BYTES);
  if ("needBytes" in found) throw damaged(place, "ends amid its description: it was cut short");
  const header = parseHeader(place, name, found.text);
  const { bytes, parts } = partsIn(place, plain, SEGMENT_BYTES + SELECT_BYTES);
  if (bytes !== header.bytes) throw otherBytes(place);
  return { header, parts: checkedBy(place, header, parts) };
}

async function* checkedBy(
  place: string,
  { crcFrom, crcTo, bytes }: SegmentHeader,
  parts: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void> {
  const crc = new Crc64();
  for await (const part of parts) {
    crc.update(part);
    yield part;
  }
  if (crc64OfBoth(crcFrom, crc.value, bytes) !== crcTo) throw otherBytes(place);
}

function otherBytes(place: string): Error {
  return damaged(place, "holds other bytes than its checksum says: it was changed");
}

/**
 * Reads a segment's header alone.
 * @param beginning the first bytes of its object, `HEADER_READ_BYTES` of them or all that there are. They are not what they
 * were afterwards.
 * @param isWhole whether these are all.
 * @returns the header, or how many bytes of the object are needed to read it.
 * @throws ReplicaError ARCHIVE_DAMAGED; USAGE where no identity reads it.
 */
export async function decodeSegmentHeader(
  place: string,
  name: string,
  beginning: Uint8Array,
  isWhole: boolean,
  decryption: Decryption | undefined,
): Promise<SegmentHeader | { readonly needBytes: number }> {
  const plain = await decrypted(place, name, beginning, decryption, isWhole);
  const found = jsonBefore(place, plain, MAX_HEADER_BYTES);
  if ("text" in found) return parseHeader(place, name, found.text);
  if (isWhole) throw damaged(place, "ends amid its description: it was cut short");
  return {
    needBytes: isEncryptedName(name)
      ? maxEncryptedBytes(found.needBytes + HEADER_READ_BYTES)
      : found.needBytes,
  };
}

/**
 * Makes an object in one buffer: the frames are written at its end, and encrypted towards its beginning.
 * @param headerOf what comes before the data, by the data's CRC64; as long whatever that is.
 */
async function encoded(
  data: PlainData,
  { codec, encryption }: ObjectWriter,
  headerOf: (crc64: bigint) => Uint8Array,
): Promise<EncodedObject> {
  const headerBytes = headerOf(0n).length;
  invariant(headerBytes <= MAX_HEADER_BYTES, "a segment's header has at most 8 MiB");
  const maxBytes = headerBytes + maxFramedBytes(data.bytes);
  const room = objectBuffer(encryption === undefined ? maxBytes : maxEncryptedBytes(maxBytes));
  const plain = room.subarray(room.length - maxBytes);
  const { bytes, crc64 } = await writeFrames(data, codec, plain.subarray(headerBytes));
  plain.set(headerOf(crc64));
  const used = plain.subarray(0, headerBytes + bytes);
  return { body: encryption === undefined ? used : await encryption.encrypt(used, room), crc64 };
}

async function decrypted(
  place: string,
  name: string,
  stored: Uint8Array,
  decryption: Decryption | undefined,
  isWhole: boolean,
): Promise<Uint8Array> {
  if (!isEncryptedName(name)) return stored;
  if (decryption === undefined) throw identityMissing(place);
  return await decryption.decrypt(place, stored, isWhole);
}

function parseHeader(place: string, name: string, text: string): SegmentHeader {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw damaged(place, "has a description that is no JSON: it was changed");
  }
  const read = segmentHeader.safeParse(json);
  if (!read.success) throw damaged(place, "has a description that can't be: it was changed");
  const { crcFrom, crcTo, ...rest } = read.data;
  const header = { ...rest, crcFrom: BigInt(`0x${crcFrom}`), crcTo: BigInt(`0x${crcTo}`) };
  const fault = faultOf(header);
  if (fault !== undefined) throw damaged(place, fault);
  const named = parseSegmentName(name);
  const isSame =
    named?.from === header.from && named.to === header.to && named.crc === header.crcTo;
  if (!isSame)
    throw damaged(place, "says that it is another segment than its name says: it was renamed");
  return header;
}

/** What can't be in a header; undefined where it can. */
function faultOf({
  from,
  to,
  crcFrom,
  bytes,
  marks,
  histories,
}: Omit<SegmentHeader, "crcTo">): string | undefined {
  const before = bytes - (to - from);
  const isFirst = crcFrom === 0n;
  if (to <= from || before < 0 || before > (isFirst ? SELECT_BYTES : 0))
    return "holds another number of bytes than its ends say";
  const isOrdered = (offsets: readonly Offset[]) =>
    offsets.every((offset, at) => offset >= (offsets[at - 1] ?? from) && offset <= to);
  if (!isOrdered(marks.map(({ offset }) => offset))) return "has marks that lie outside of it";
  if (!isOrdered(histories.map(({ fromOffset }) => fromOffset)))
    return "has histories that lie outside of it";
  return undefined;
}
