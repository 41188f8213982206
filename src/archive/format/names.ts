import type { Offset } from "../../base/history.ts";
import { hex64 } from "../../base/hex64.ts";

/** Written once, before anything else: says which format the archive has. */
export const ARCHIVE_KEY = "archive.json";
/** In the place of that, where an archive is that of a cluster: what lies beside it are its shards. */
export const CLUSTER_KEY = "cluster.json";
/** The folder of all generations. */
export const GENERATIONS = "generations";
/** Written first in a generation's folder; what makes it count; why it ended. */
export const GENERATION_FILE = "generation.json";
export const BASE_FILE = "base.json";
export const SEALED_FILE = "sealed.json";
/** Written before anything of a generation is removed: when that began, by the store's clock. */
export const REMOVED_FILE = "removed.json";

/** A generation's folder: when it began, and what tells it from others of that second. */
export interface GenerationName {
  /** Milliseconds since 1970, in whole seconds. */
  readonly startedMs: number;
  /** Ten letters and digits. */
  readonly random: string;
}

/** Where a segment of a log begins and ends. The offsets are those of the last byte before it, and of its last byte. */
export interface SegmentName {
  readonly from: Offset;
  readonly to: Offset;
  /** The CRC64 of the log from its first byte up to `to`. */
  readonly crc: bigint;
}

const RANDOM_CHARACTERS = 10;
/** See `parseOffset`. */
const MAX_OFFSET = 2 ** 52;
const OFFSET_DIGITS = 16;
const PIECE_DIGITS = 6;
/** What tells an encrypted object from another. */
const ENCRYPTED = ".age";

const GENERATION = /^(\d{8})T(\d\d)(\d\d)(\d\d)Z-([0-9a-z]{10})$/;
const SEGMENT = /^(\d{16})-(\d{16})-([0-9a-f]{16})\.aof\.zst(?:\.age)?$/;
const PIECE = /^(\d{6})\.rdb\.zst(?:\.age)?$/;

/**
 * Names a generation that begins now.
 * @param random from 0 (inclusive) to 1 (exclusive), anew with each call.
 */
export function newGenerationName(startedMs: number, random: () => number): string {
  const time = new Date(startedMs).toISOString().replaceAll(/[-:]|\.\d{3}/g, "");
  const characters = Array.from({ length: RANDOM_CHARACTERS }, () =>
    Math.floor(random() * 36).toString(36),
  );
  return `${time}-${characters.join("")}`;
}

/** Reads the name of a folder in `generations/`; undefined for one that isn't ours. */
export function parseGenerationName(name: string): GenerationName | undefined {
  const match = GENERATION.exec(name);
  if (match === null) return undefined;
  const [, date = "", hour = "", minute = "", second = "", random = ""] = match;
  const day = date.replace(/(....)(..)(..)/, "$1-$2-$3");
  const startedMs = Date.parse(`${day}T${hour}:${minute}:${second}Z`);
  return Number.isNaN(startedMs) ? undefined : { startedMs, random };
}

/** The key of a file in a generation's folder, or that of the folder where `file` is left out. */
export function generationKey(generation: string, file?: string): string {
  return [GENERATIONS, generation, ...(file === undefined ? [] : [file])].join("/");
}

/** The folders of a generation's pieces and segments. */
export function baseFolder(generation: string): string {
  return generationKey(generation, "base");
}

export function logFolder(generation: string): string {
  return generationKey(generation, "log");
}

/** Names a piece of a base, counted from 0. Names sort as their numbers do. */
export function pieceName(index: number, isEncrypted: boolean): string {
  return `${padded(index, PIECE_DIGITS)}.rdb.zst${isEncrypted ? ENCRYPTED : ""}`;
}

/** The number of a piece; undefined for a file that isn't ours. */
export function parsePieceName(name: string): number | undefined {
  const match = PIECE.exec(name);
  return match === null ? undefined : Number(match[1]);
}

/** Names a segment. Names sort as their offsets do. */
export function segmentName({ from, to, crc }: SegmentName, isEncrypted: boolean): string {
  const offsets = `${padded(from, OFFSET_DIGITS)}-${padded(to, OFFSET_DIGITS)}`;
  return `${offsets}-${hex64(crc)}.aof.zst${isEncrypted ? ENCRYPTED : ""}`;
}

/** What a segment's name says; undefined for a file that isn't ours. */
export function parseSegmentName(name: string): SegmentName | undefined {
  const match = SEGMENT.exec(name);
  if (match === null) return undefined;
  const [from, to] = [Number(match[1]), Number(match[2])];
  if (to <= from || to > MAX_OFFSET) return undefined;
  const [, , , crc = ""] = match;
  return { from, to, crc: BigInt(`0x${crc}`) };
}

/** Whether the object of that name is encrypted. */
export function isEncryptedName(name: string): boolean {
  return name.endsWith(ENCRYPTED);
}

function padded(value: number, digits: number): string {
  return String(value).padStart(digits, "0");
}
