import type { Decryption } from "../../src/archive/format/encryption.ts";
import * as objects from "../../src/archive/format/objects.ts";
import type { ObjectWriter, SegmentHeader } from "../../src/archive/format/objects.ts";
import type { PlainData } from "../../src/archive/format/zstd-frames.ts";

/** Data that lies in memory as a whole. */
export function inMemory(data: Uint8Array): PlainData {
  return {
    bytes: data.length,
    read: async (from, room) => room.set(data.subarray(from, from + room.length)),
  };
}

/** The object of a piece. */
export async function encodePiece(data: Uint8Array, writer: ObjectWriter): Promise<Uint8Array> {
  return (await objects.encodePiece(inMemory(data), writer)).body;
}

/** The object of a segment. @throws Error where the header's checksum is not its data's. */
export async function encodeSegment(
  { crcTo, ...header }: SegmentHeader,
  data: Uint8Array,
  writer: ObjectWriter,
): Promise<Uint8Array> {
  const made = await objects.encodeSegment(header, inMemory(data), writer);
  if (made.crcTo !== crcTo) throw new Error("the header has another checksum than its data");
  return made.body;
}

/** The data of a piece; `stored` stays as it is. */
export async function decodePiece(
  place: string,
  name: string,
  stored: Uint8Array,
  decryption: Decryption | undefined,
): Promise<Buffer> {
  const copy = Uint8Array.from(stored);
  const { parts } = await objects.decodePiece(place, name, copy, decryption);
  return await gathered(parts);
}

/** A segment; `stored` stays as it is. */
export async function decodeSegment(
  place: string,
  name: string,
  stored: Uint8Array,
  decryption: Decryption | undefined,
): Promise<{ readonly header: SegmentHeader; readonly data: Buffer }> {
  const copy = Uint8Array.from(stored);
  const { header, parts } = await objects.decodeSegment(place, name, copy, decryption);
  return { header, data: await gathered(parts) };
}

/** What parts make as a whole. */
export async function gathered(parts: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Buffer[] = [];
  for await (const part of parts) copies.push(Buffer.from(part));
  return Buffer.concat(copies);
}
