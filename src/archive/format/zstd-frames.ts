import { giveBack } from "../../store/disk/disk.ts";
import { objectBuffer } from "../store/object-buffers.ts";
import { damaged } from "../store/object-store.ts";
import type { Codec } from "./documents.ts";

/** The magic numbers of RFC 8878. Of the sixteen skippable ones, other tools use the first. */
const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
const SKIPPABLE_MASK = 0xfffffff0;
const OURS = 0x184d2a57;

/** The level at which one core compresses faster than most networks carry. */
const LEVEL = 1;
/** What one frame holds: as much as a thread of the pool compresses in some ten milliseconds. */
export const FRAME_BYTES = 4 * 1024 * 1024;
/** How many frames are compressed side by side: more would take more new memory, and a piece has four. */
const COMPRESSED_AT_ONCE = 2;
/** The most that a block holds, by the RFC. */
const BLOCK_BYTES = 128 * 1024;
const BLOCK_HEADER_BYTES = 3;
const SKIPPABLE_HEADER_BYTES = 8;
/** Magic, descriptor, window or size: the most before the first block of a frame that we write. */
const FRAME_HEADER_BYTES = 18;

/** A part of an object, as it lies there. */
type Frame =
  | { readonly kind: "skippable"; readonly content: Uint8Array }
  | { readonly kind: "data"; readonly bytes: Uint8Array; readonly contentBytes: number };

/** The most bytes that so many bytes of data have as frames, the JSON before them left out. */
export function maxFramedBytes(dataBytes: number): number {
  const frames = Math.ceil(dataBytes / FRAME_BYTES);
  const blocks = Math.ceil(dataBytes / BLOCK_BYTES) + frames;
  return dataBytes + frames * FRAME_HEADER_BYTES + blocks * BLOCK_HEADER_BYTES;
}

/**
 * Puts data into whole zstd frames, on the thread pool. With `none` these hold the bytes as they are.
 * @param room where to, of `maxFramedBytes` at least.
 * @returns how many bytes they have.
 */
export async function writeFrames(
  data: Uint8Array,
  codec: Codec,
  room: Uint8Array,
): Promise<number> {
  let bytes = 0;
  for (let at = 0; at < data.length; at += COMPRESSED_AT_ONCE * FRAME_BYTES) {
    const parts = Array.from({ length: COMPRESSED_AT_ONCE }, (_, n) => {
      const from = at + n * FRAME_BYTES;
      return data.subarray(from, from + FRAME_BYTES) as Uint8Array<ArrayBuffer>;
    }).filter(({ length }) => length > 0);
    if (codec === "none") {
      for (const part of parts) bytes += writeRawFrame(part, room.subarray(bytes));
      continue;
    }
    const compressing = parts.map((part) => Bun.zstdCompress(part, { level: LEVEL }));
    for (const frame of await Promise.all(compressing)) {
      room.set(frame, bytes);
      bytes += frame.length;
      giveBack(frame);
    }
  }
  return bytes;
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
 * Takes the data out of zstd frames, on the thread pool; frames that are to be passed over are.
 * @param maxBytes the most data that there may be: nothing is allocated for a frame that claims more.
 * @throws ReplicaError ARCHIVE_DAMAGED where they are cut short, changed, or hold more.
 */
export async function fromFrames(
  place: string,
  stored: Uint8Array,
  maxBytes: number,
): Promise<Uint8Array> {
  const frames: {
    readonly bytes: Uint8Array;
    readonly at: number;
    readonly contentBytes: number;
  }[] = [];
  let dataBytes = 0;
  for (const frame of framesIn(place, stored)) {
    if (frame.kind === "skippable") continue;
    frames.push({ bytes: frame.bytes, at: dataBytes, contentBytes: frame.contentBytes });
    dataBytes += frame.contentBytes;
    if (dataBytes > maxBytes)
      throw damaged(place, `claims to hold ${dataBytes} bytes, more than ${maxBytes}`);
  }
  const data = objectBuffer(dataBytes);
  // One after the other, so that the memory of one serves the next: objects are read side by side anyway.
  for (const { bytes, at, contentBytes } of frames) {
    let content: Uint8Array;
    try {
      content = await Bun.zstdDecompress(bytes as Uint8Array<ArrayBuffer>);
    } catch {
      throw damaged(place, "can't be decompressed: it was changed");
    }
    if (content.length !== contentBytes) throw damaged(place, "holds another size than it claims");
    data.set(content, at);
    giveBack(content);
  }
  return data;
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
