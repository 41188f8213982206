import { giveBack } from "../../store/disk/disk.ts";
import { Crc64 } from "../../rdb/crc64.ts";
import { objectBuffer, recycle } from "../store/object-buffers.ts";
import { damaged } from "../store/object-store.ts";
import type { Codec } from "./documents.ts";

/** The magic numbers of RFC 8878. Of the sixteen skippable ones, other tools use the first. */
const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
const SKIPPABLE_MASK = 0xfffffff0;
const OURS = 0x184d2a57;

/** The level at which one core compresses faster than most networks carry. */
const LEVEL = 1;
/**
 * What one frame holds: as much as a thread of the pool compresses in some five milliseconds. That much of the data is in
 * memory at once, and twice. Frames of half that size take 1 % more room in the store, of twice that size 0.3 % less.
 */
export const FRAME_BYTES = 2 * 1024 * 1024;
/** How many frames are made side by side: one is read while the one before it is compressed. */
const AT_ONCE = 2;
/** The most that a block holds, by the RFC. */
const BLOCK_BYTES = 128 * 1024;
const BLOCK_HEADER_BYTES = 3;
const SKIPPABLE_HEADER_BYTES = 8;
/** Magic, descriptor, window or size: the most before the first block of a frame that we write. */
const FRAME_HEADER_BYTES = 18;

/** The data of an object, which is read part by part: it is never in memory as a whole. */
export interface PlainData {
  readonly bytes: number;
  /** Fills `room` with the data from byte `from` on. */
  read(from: number, room: Uint8Array): Promise<void>;
}

/** A part of an object, as it lies there. */
type Frame = { readonly kind: "skippable"; readonly content: Uint8Array } | DataFrame;

interface DataFrame {
  readonly kind: "data";
  readonly bytes: Uint8Array;
  readonly contentBytes: number;
}

/** The most bytes that so many bytes of data have as frames, the JSON before them left out. */
export function maxFramedBytes(dataBytes: number): number {
  const frames = Math.ceil(dataBytes / FRAME_BYTES);
  const blocks = Math.ceil(dataBytes / BLOCK_BYTES) + frames;
  return dataBytes + frames * FRAME_HEADER_BYTES + blocks * BLOCK_HEADER_BYTES;
}

/**
 * Puts data into whole zstd frames, on the thread pool. With `none` these hold the bytes as they are.
 * @param room where to, of `maxFramedBytes` at least.
 * @returns how many bytes they have, and the CRC64 of the data.
 * @throws what `data` throws.
 */
export async function writeFrames(
  data: PlainData,
  codec: Codec,
  room: Uint8Array,
): Promise<{ readonly bytes: number; readonly crc64: bigint }> {
  const parts = Array.from({ length: AT_ONCE }, () =>
    objectBuffer(Math.min(FRAME_BYTES, data.bytes)),
  );
  const crc = new Crc64();
  let bytes = 0;
  const take = async (frame: Promise<Uint8Array> | undefined) => {
    if (frame === undefined) return;
    const made = await frame;
    room.set(made, bytes);
    bytes += made.length;
    giveBack(made);
  };
  let before: Promise<Uint8Array> | undefined;
  for (let at = 0, index = 0; at < data.bytes; at += FRAME_BYTES, index++) {
    // What was compressed from it is taken: only the frame before this one is in work.
    const part = parts[index % AT_ONCE]!.subarray(0, Math.min(FRAME_BYTES, data.bytes - at));
    await data.read(at, part);
    crc.update(part);
    if (codec === "none") {
      bytes += writeRawFrame(part, room.subarray(bytes));
      continue;
    }
    const frame = Bun.zstdCompress(part, { level: LEVEL });
    // Where reading the next part fails, nobody waits for it.
    frame.catch(() => undefined);
    await take(before);
    before = frame;
  }
  await take(before);
  for (const part of parts) recycle(part);
  return { bytes, crc64: crc.value };
}

/** Writes a frame of raw blocks, which every zstd tool reads. @returns how many bytes it has. */
function writeRawFrame(data: Uint8Array, room: Uint8Array): number {
  const blocks = Math.max(1, Math.ceil(data.length / BLOCK_BYTES));
  const frame = Buffer.from(room.buffer, room.byteOffset, room.length);
  frame.writeUInt32LE(MAGIC, 0);
  // One segment, and a content size of four bytes.
  frame[4] = 0b1010_0000;
  frame.writeUInt32LE(data.length, 5);
  let at = 9;
  for (let block = 0; block < blocks; block++) {
    const part = data.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
    const isLast = block === blocks - 1;
    frame.writeUIntLE((part.length << 3) | (isLast ? 1 : 0), at, BLOCK_HEADER_BYTES);
    frame.set(part, at + BLOCK_HEADER_BYTES);
    at += BLOCK_HEADER_BYTES + part.length;
  }
  return at;
}

/** A frame that other tools pass over, with JSON in it. */
export function jsonFrame(json: unknown): Uint8Array {
  const content = Buffer.from(JSON.stringify(json));
  const frame = Buffer.alloc(SKIPPABLE_HEADER_BYTES + content.length);
  frame.writeUInt32LE(OURS, 0);
  frame.writeUInt32LE(content.length, 4);
  frame.set(content, SKIPPABLE_HEADER_BYTES);
  return frame;
}

/**
 * The JSON text before the data.
 * @param stored the object, or its beginning.
 * @returns undefined where more than this beginning is needed; `needBytes` of it.
 * @throws ReplicaError ARCHIVE_DAMAGED where it begins with anything else, or with more than `maxBytes`.
 */
export function jsonBefore(
  place: string,
  stored: Uint8Array,
  maxBytes: number,
): { readonly text: string } | { readonly needBytes: number } {
  if (stored.length < SKIPPABLE_HEADER_BYTES) return { needBytes: SKIPPABLE_HEADER_BYTES };
  const view = viewOf(stored);
  if (view.getUint32(0, true) !== OURS)
    throw damaged(place, "begins with no description of its own");
  const bytes = view.getUint32(4, true);
  if (bytes > maxBytes) throw damaged(place, `claims a description of ${bytes} bytes`);
  const needBytes = SKIPPABLE_HEADER_BYTES + bytes;
  if (stored.length < needBytes) return { needBytes };
  return { text: Buffer.from(stored.subarray(SKIPPABLE_HEADER_BYTES, needBytes)).toString("utf8") };
}

/**
 * Takes the data out of zstd frames, on the thread pool and part by part: while one is used, the next one is decompressed.
 * Frames that are to be passed over are.
 * @param maxBytes the most data that there may be: nothing is allocated for a frame that claims more.
 * @returns how many bytes the frames claim to hold, and the parts; each of these is gone once the next is asked for.
 * @throws ReplicaError ARCHIVE_DAMAGED where they are cut short, or claim more; where a part can't be decompressed, or holds
 * another size, once that is asked for.
 */
export function partsIn(
  place: string,
  stored: Uint8Array,
  maxBytes: number,
): { readonly bytes: number; readonly parts: AsyncGenerator<Uint8Array, void> } {
  const frames: DataFrame[] = [];
  let bytes = 0;
  for (const frame of framesIn(place, stored)) {
    if (frame.kind === "skippable") continue;
    frames.push(frame);
    bytes += frame.contentBytes;
    if (bytes > maxBytes)
      throw damaged(place, `claims to hold ${bytes} bytes, more than ${maxBytes}`);
  }
  return { bytes, parts: contentsOf(place, frames) };
}

async function* contentsOf(
  place: string,
  frames: readonly DataFrame[],
): AsyncGenerator<Uint8Array, void> {
  const begin = (frame: DataFrame | undefined) => {
    const content = frame && contentOf(place, frame);
    // Where its part is never asked for, nobody is told.
    content?.catch(() => undefined);
    return content;
  };
  let coming = begin(frames[0]);
  for (let index = 0; coming !== undefined; index++) {
    const content = await coming;
    coming = begin(frames[index + 1]);
    yield content;
    giveBack(content);
  }
}

async function contentOf(place: string, { bytes, contentBytes }: DataFrame): Promise<Uint8Array> {
  let content: Uint8Array;
  try {
    content = await Bun.zstdDecompress(bytes as Uint8Array<ArrayBuffer>);
  } catch {
    throw damaged(place, "can't be decompressed: it was changed");
  }
  if (content.length !== contentBytes) throw damaged(place, "holds another size than it claims");
  return content;
}

function* framesIn(place: string, stored: Uint8Array): Generator<Frame, void> {
  const view = viewOf(stored);
  for (let at = 0; at < stored.length;) {
    const frame = frameAt(stored, view, at);
    if (frame === undefined)
      throw damaged(place, `is no zstd frame from byte ${at} on: it was cut short or changed`);
    yield frame;
    at +=
      frame.kind === "skippable"
        ? SKIPPABLE_HEADER_BYTES + frame.content.length
        : frame.bytes.length;
  }
}

/** The frame that begins at `at`; undefined where none does that is whole. */
function frameAt(stored: Uint8Array, view: DataView, at: number): Frame | undefined {
  if (at + SKIPPABLE_HEADER_BYTES > stored.length) return undefined;
  const magic = view.getUint32(at, true);
  if ((magic & SKIPPABLE_MASK) >>> 0 === SKIPPABLE) {
    const from = at + SKIPPABLE_HEADER_BYTES;
    const to = from + view.getUint32(at + 4, true);
    if (to > stored.length) return undefined;
    return { kind: "skippable", content: stored.subarray(from, to) };
  }
  if (magic !== MAGIC) return undefined;
  const header = frameHeader(stored, view, at);
  const to =
    header === undefined ? undefined : endOfBlocks(stored, at + header.bytes, header.checksumBytes);
  if (header === undefined || to === undefined) return undefined;
  return { kind: "data", bytes: stored.subarray(at, to), contentBytes: header.contentBytes };
}

interface FrameHeader {
  readonly bytes: number;
  readonly contentBytes: number;
  readonly checksumBytes: number;
}

/** RFC 8878, 3.1.1.1. Undefined where the frame needs a dictionary or doesn't say how much it holds: ours do. */
function frameHeader(stored: Uint8Array, view: DataView, at: number): FrameHeader | undefined {
  const descriptor = stored[at + 4]!;
  const isSingle = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  if ((descriptor & 0x0b) !== 0 || (sizeFlag === 0 && !isSingle)) return undefined;
  const sizeAt = at + 5 + (isSingle ? 0 : 1);
  const sizeBytes = 1 << sizeFlag;
  if (sizeAt + sizeBytes > stored.length) return undefined;
  const contentBytes = [
    () => view.getUint8(sizeAt),
    () => view.getUint16(sizeAt, true) + 256,
    () => view.getUint32(sizeAt, true),
    () => Number(view.getBigUint64(sizeAt, true)),
  ][sizeFlag]!();
  const checksumBytes = (descriptor & 0x04) === 0 ? 0 : 4;
  return { bytes: sizeAt + sizeBytes - at, contentBytes, checksumBytes };
}

/** Where a frame ends whose blocks begin at `at`. */
function endOfBlocks(stored: Uint8Array, at: number, checksumBytes: number): number | undefined {
  for (;;) {
    if (at + BLOCK_HEADER_BYTES > stored.length) return undefined;
    const header = stored[at]! | (stored[at + 1]! << 8) | (stored[at + 2]! << 16);
    const [isLast, type, size] = [(header & 1) === 1, (header >> 1) & 3, header >> 3];
    if (type === 3 || size > BLOCK_BYTES) return undefined;
    // A block of one byte, repeated, has that byte alone.
    at += BLOCK_HEADER_BYTES + (type === 1 ? 1 : size);
    if (!isLast) continue;
    return at + checksumBytes > stored.length ? undefined : at + checksumBytes;
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
