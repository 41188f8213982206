import { ARCHIVE_DOCUMENT, ARCHIVE_FORMAT } from "../../src/archive/format/documents.ts";
import { type BaseDocument, encodeDocument } from "../../src/archive/format/documents.ts";
import type { Encryption } from "../../src/archive/format/encryption.ts";
import {
  ARCHIVE_KEY,
  BASE_FILE,
  baseFolder,
  GENERATION_FILE,
  generationKey,
  logFolder,
  newGenerationName,
  pieceName,
  SEALED_FILE,
  segmentName,
} from "../../src/archive/format/names.ts";
import { type SegmentHeader } from "../../src/archive/format/objects.ts";
import { type ObjectStore, sha256Of } from "../../src/archive/store/object-store.ts";
import { hex64 } from "../../src/base/hex64.ts";
import { Random } from "../../src/demo/random.ts";
import { crc64 } from "../../src/rdb/crc64.ts";
import { selectCommand } from "../../src/resp/encode.ts";
import { encodeCommand } from "./resp.ts";
import { encodePiece, encodeSegment } from "./whole-objects.ts";

export const STARTED_MS = Date.UTC(2026, 10, 30, 5);
export const REPLID = "a".repeat(40);

export interface Mark {
  readonly timeMs: number;
  readonly offset: number;
}

/** What to write as one generation. */
export interface GenerationPlan {
  readonly rdb: Uint8Array;
  /** What follows the snapshot, without the SELECT before it. */
  readonly stream: Uint8Array;
  /** How many bytes of the stream come before the end of each segment. */
  readonly cuts: readonly number[];
  /** Segments that end there or before are left to another writer. */
  readonly from?: number;
  readonly marks?: readonly Mark[];
  readonly histories?: SegmentHeader["histories"];
  readonly startedMs?: number;
  readonly seed?: number;
  readonly replid?: string;
  readonly primary?: string;
  readonly baseOffset?: number;
  readonly pieceBytes?: number;
  readonly encryption?: Encryption | undefined;
  readonly isSealed?: boolean;
  readonly lineage?: { readonly name: string; readonly generation: number };
}

export interface WrittenGeneration {
  readonly name: string;
  readonly baseOffset: number;
  readonly rdb: Buffer;
  /** The whole log, its SELECT included. */
  readonly log: Buffer;
  readonly selectBytes: number;
  readonly marks: readonly Mark[];
  /** The keys of its objects. */
  readonly pieces: readonly string[];
  readonly segments: readonly string[];
}

const never = new AbortController().signal;

/** Writes an archive's own description. */
export async function writeArchive(store: ObjectStore): Promise<void> {
  await store.put(ARCHIVE_KEY, encodeDocument("archive", ARCHIVE_DOCUMENT), never);
}

/** Writes one generation, its marks a second apart unless the plan has others. */
export async function writeGeneration(
  store: ObjectStore,
  plan: GenerationPlan,
): Promise<WrittenGeneration> {
  const { startedMs = STARTED_MS, seed = 1, baseOffset = 5_000, isSealed = false } = plan;
  const random = new Random(seed);
  const name = newGenerationName(startedMs, () => random.below(1_000_000) / 1_000_000);
  const put = (file: string, bytes: Uint8Array) =>
    store.put(generationKey(name, file), bytes, never);
  const started = new Date(startedMs).toISOString();
  const generation = {
    format: ARCHIVE_FORMAT,
    started,
    program: "replica 0.1.0",
    primary: plan.primary ?? "127.0.0.1:6379",
    replid: plan.replid ?? REPLID,
    baseOffset,
    codec: "zstd" as const,
    recipients: [...(plan.encryption?.recipients ?? [])],
    ...(plan.lineage === undefined ? {} : { lineage: plan.lineage }),
  };
  await put(GENERATION_FILE, encodeDocument("generation", generation));
  const pieces = await writeBase(store, name, plan, started);
  const select = Buffer.from(selectCommand(0));
  const log = Buffer.concat([select, plan.stream]);
  const marks = plan.marks ?? everySecond(startedMs, baseOffset, plan.stream.length);
  const segments: string[] = [];
  for (const [index, to] of plan.cuts.entries()) {
    const from = plan.cuts[index - 1] ?? 0;
    if (to <= (plan.from ?? 0)) continue;
    const segment = segmentOf(
      { log, baseOffset, marks, histories: plan.histories ?? [] },
      from,
      to,
    );
    const writer = { codec: "zstd", encryption: plan.encryption } as const;
    const named = { ...segment.header, crc: segment.header.crcTo };
    const key = `${logFolder(name)}/${segmentName(named, plan.encryption !== undefined)}`;
    await store.put(key, await encodeSegment(segment.header, segment.data, writer), never);
    segments.push(key);
  }
  if (isSealed) {
    const end = plan.cuts.at(-1) ?? 0;
    const crc = crc64(log.subarray(0, select.length + end));
    const reason = "a new snapshot";
    const sealed = { format: ARCHIVE_FORMAT, sealed: started, reason };
    const where = { endOffset: baseOffset + end, endCrc64: hex64(crc) };
    await put(SEALED_FILE, encodeDocument("sealed", { ...sealed, ...where }));
  }
  const rdb = Buffer.from(plan.rdb);
  return { name, baseOffset, rdb, log, selectBytes: select.length, marks, pieces, segments };
}

async function writeBase(
  store: ObjectStore,
  name: string,
  { rdb, pieceBytes = 60_000, encryption }: GenerationPlan,
  finished: string,
): Promise<string[]> {
  const pieces: BaseDocument["pieces"] = [];
  for (let at = 0; at < rdb.length; at += pieceBytes) {
    const part = rdb.subarray(at, at + pieceBytes);
    const stored = await encodePiece(part, { codec: "zstd", encryption });
    const piece = pieceName(pieces.length, encryption !== undefined);
    await store.put(`${baseFolder(name)}/${piece}`, stored, never);
    const sha256 = (await sha256Of(stored)).toString("hex");
    pieces.push({ name: piece, bytes: stored.length, sha256, rdbBytes: part.length });
  }
  // As everywhere, without the checksum that the snapshot itself ends with.
  const rdbCrc64 = hex64(crc64(rdb.subarray(0, -8)));
  const base = { format: ARCHIVE_FORMAT, finished, rdbBytes: rdb.length, rdbCrc64, pieces };
  await store.put(generationKey(name, BASE_FILE), encodeDocument("base", base), never);
  return pieces.map((piece) => `${baseFolder(name)}/${piece.name}`);
}

function everySecond(startedMs: number, baseOffset: number, bytes: number): Mark[] {
  const seconds = 20;
  return Array.from({ length: seconds + 1 }, (_, n) => ({
    timeMs: startedMs + n * 1_000,
    offset: baseOffset + Math.floor((bytes * n) / seconds),
  }));
}

interface WholeLog {
  readonly log: Buffer;
  readonly baseOffset: number;
  readonly marks: readonly Mark[];
  readonly histories: SegmentHeader["histories"];
}

function segmentOf({ log, baseOffset, marks, histories }: WholeLog, from: number, to: number) {
  const selectBytes = selectCommand(0).length;
  const start = from === 0 ? 0 : selectBytes + from;
  const data = log.subarray(start, selectBytes + to);
  const [after, upTo] = [baseOffset + from, baseOffset + to];
  const isIn = (offset: number) =>
    offset <= upTo && (offset > after || (from === 0 && offset === after));
  const header: SegmentHeader = {
    from: after,
    to: upTo,
    crcFrom: crc64(log.subarray(0, start)),
    crcTo: crc64(log.subarray(0, selectBytes + to)),
    bytes: data.length,
    marks: marks.filter(({ offset }) => isIn(offset)),
    histories: histories.filter(({ fromOffset }) => isIn(fromOffset)),
  };
  return { header, data };
}

/** A stream of whole commands, and how many bytes come before the end of each. */
export function streamOf(seed: number, commands: number): { stream: Buffer; ends: number[] } {
  const random = new Random(seed);
  const made: Uint8Array[] = [];
  const ends: number[] = [];
  let bytes = 0;
  for (let n = 0; n < commands; n++) {
    const value = random.text(random.below(200));
    const command = encodeCommand(["SET", `key:${random.below(1_000)}`, value]);
    made.push(command);
    ends.push((bytes += command.length));
  }
  return { stream: Buffer.concat(made), ends };
}

/** Where to cut a stream into so many segments, at any byte. */
export function randomCuts(seed: number, bytes: number, segments: number): number[] {
  const random = new Random(seed);
  const cuts = new Set([bytes]);
  while (cuts.size < segments) cuts.add(1 + random.below(bytes - 1));
  return [...cuts].toSorted((a, b) => a - b);
}
