import { invariant, ReplicaError, unreachable } from "../../base/errors.ts";
import { hex64 } from "../../base/hex64.ts";
import type { Offset } from "../../base/history.ts";
import { historyAfter } from "../../base/history.ts";
import { logger } from "../../base/logger.ts";
import { crc64OfBoth } from "../../rdb/crc64.ts";
import type { Disk } from "../../store/disk/disk.ts";
import type { LogEnd } from "../format/chain.ts";
import {
  ARCHIVE_FORMAT,
  type BaseDocument,
  encodeDocument,
  type GenerationDocument,
} from "../format/documents.ts";
import {
  BASE_FILE,
  baseFolder,
  GENERATION_FILE,
  generationKey,
  logFolder,
  newGenerationName,
  pieceName,
  SEALED_FILE,
  segmentName,
} from "../format/names.ts";
import { encodePiece, encodeSegment, type ObjectWriter, PIECE_BYTES } from "../format/objects.ts";
import { type ObjectStore, sha256Of } from "../store/object-store.ts";
import type { ArchiveSource, LocalGeneration } from "./archive-source.ts";
import type { LocalFiles } from "./local-files.ts";
import { OwnFolder, type SentPiece } from "./own-folder.ts";
import { heldState, type WriterState } from "./writer-state.ts";

/** So many bytes of a log are sent at once, however little time has passed. */
export const AT_ONCE_BYTES = 8 * 1024 * 1024;

/** The least that shows whether an object is there. */
const ONE_BYTE = { range: { from: 0, to: 1 }, maxBytes: 1 };

/** The length of a replication id. */
const REPLID_CHARACTERS = 40;

export type ObjectKind = "document" | "piece" | "segment";

/** The next object that the archive lacks of a generation. */
export interface LackedObject {
  readonly kind: ObjectKind;
  readonly key: string;
  readonly body: Uint8Array;
  /** The SHA-256 of the body, where it had to be computed. */
  readonly sha256?: Buffer;
  /** What the writer is at once the archive holds it. */
  readonly after: WriterState;
}

export interface GenerationWriterParts {
  readonly store: ObjectStore;
  /** Which archive this is: its URL, and where that leads. A generation has a folder of its own in each. */
  readonly archive: string;
  readonly source: ArchiveSource;
  readonly disk: Disk;
  readonly files: LocalFiles;
  readonly writer: ObjectWriter;
  /** This program and its version: `replica 0.1.0`. */
  readonly program: string;
  /** Whether what is complete, as it is remembered, may be so in another place only. */
  readonly isMoved?: boolean;
  /** From 0 (inclusive) to 1 (exclusive). */
  readonly random: () => number;
}

/**
 * Knows what the archive holds of one generation, and makes the next object that it lacks. It sends nothing itself: who
 * asked for an object says when it is stored.
 */
export class GenerationWriter {
  readonly id: number;
  readonly #parts: GenerationWriterParts;
  readonly #folder: OwnFolder;
  #state: WriterState;
  /** What the archive holds is known from a LIST, which may leave out what was stored moments ago. */
  #isListed: boolean;

  private constructor(
    parts: GenerationWriterParts,
    id: number,
    folder: OwnFolder,
    state: WriterState,
    isListed: boolean,
  ) {
    this.#parts = parts;
    this.id = id;
    this.#folder = folder;
    this.#state = state;
    this.#isListed = isListed;
  }

  /**
   * Goes on where the archive ends: in the folder that is remembered, if it is this data directory's and holds this
   * log; else in a new one.
   * @throws ReplicaError ARCHIVE_CONFLICT where that was refused before; of the store, of the disk and of the ledger; the
   * reason of `signal`.
   */
  static async begin(
    parts: GenerationWriterParts,
    generation: LocalGeneration,
    signal: AbortSignal,
  ): Promise<GenerationWriter> {
    const { disk, archive, store } = parts;
    const { id, memoryPath } = generation;
    const known = await OwnFolder.open(disk, memoryPath, archive);
    // Where it goes on nevertheless, somebody has put back an older state of the data directory.
    if (known?.isComplete === true && generation.sealed !== undefined && parts.isMoved !== true)
      return new GenerationWriter(parts, id, known, { at: "complete" }, false);
    if (known?.conflict !== undefined) throw stillInConflict(known.conflict, memoryPath);
    if (known !== undefined && isWrittenSo(known.document, parts.writer)) {
      const state = await heldState(parts, generation, known, signal);
      // A kill came between the last object and this.
      if (state?.at === "complete" && !known.isComplete) await known.complete();
      if (state !== undefined) return new GenerationWriter(parts, id, known, state, true);
      const place = `${store.url}/${generationKey(known.name)}`;
      logger.warn(
        `${place} is being removed, or does not hold the log of generation ${id}: it is left as it is, and the generation is archived anew`,
      );
    }
    const name = newGenerationName(generation.startedMs, parts.random);
    const before = known ?? (await predecessor(parts, id));
    // The first one's own, also where it was archived before lineages were written down.
    const lineage = before?.document.lineage?.name ?? before?.name ?? name;
    const madeBy = await parts.files.madeBy(generation);
    const document = documentOf(parts, generation, { lineage, madeBy });
    const folder = await OwnFolder.create(disk, memoryPath, archive, name, document);
    const end = { offset: generation.baseOffset, crc: 0n };
    const nothing = { at: "generation", after: { at: "base", pieces: 0, end } } as const;
    return new GenerationWriter(parts, id, folder, nothing, false);
  }

  get isComplete(): boolean {
    return this.#state.at === "complete";
  }

  /** The last offset that can be restored from the archive; undefined before the base is whole there. */
  get archivedOffset(): Offset | undefined {
    return this.#state.at === "log" ? this.#state.end.offset : undefined;
  }

  /** Bytes of the base that the archive lacks. */
  lackedBaseBytes({ rdbBytes }: LocalGeneration): number {
    const state = this.#state.at === "generation" ? this.#state.after : this.#state;
    return state.at === "base" ? Math.max(0, rdbBytes - state.pieces * PIECE_BYTES) : 0;
  }

  /** Durable bytes of the log that the archive lacks. */
  lackedLogBytes({ baseOffset, durableOffset }: LocalGeneration): number {
    if (this.isComplete) return 0;
    return Math.max(0, durableOffset - (this.archivedOffset ?? baseOffset));
  }

  /**
   * Makes the next object. Says nothing about whether it is time for it but for a segment: that is made once there are
   * `AT_ONCE_BYTES`, the generation is sealed, or it `isDue`; of what is settled only.
   * @param generation as it is now.
   * @returns undefined where the archive lacks nothing that should be sent now.
   * @throws ReplicaError DISK_FAILED, DISK_FULL; DIRECTORY_DAMAGED, never to be retried, where the base is not the
   * snapshot that was received; of the ledger and of the store; the reason of `signal`.
   */
  async next(
    generation: LocalGeneration,
    isDue: boolean,
    signal: AbortSignal,
  ): Promise<LackedObject | undefined> {
    const unpin = this.#parts.source.pin(this.id);
    try {
      const state = this.#state;
      switch (state.at) {
        case "generation":
          return {
            kind: "document",
            key: generationKey(this.#folder.name, GENERATION_FILE),
            body: this.#folder.storedDocument,
            after: state.after,
          };
        case "base":
          if (generation.arriving !== undefined)
            return (state.pieces + 1) * PIECE_BYTES <= generation.rdbBytes
              ? await this.#piece(generation, state.pieces, state.end)
              : undefined;
          return state.pieces * PIECE_BYTES < generation.rdbBytes
            ? await this.#piece(generation, state.pieces, state.end)
            : await this.#baseDocument(generation, state.pieces, state.end);
        case "log":
          return await this.#segmentThatLacks(generation, state.end, isDue, signal);
        case "complete":
          return undefined;
        default:
          return unreachable(state);
      }
    } finally {
      unpin();
    }
  }

  /**
   * The archive holds an object that `next` made.
   * @throws ReplicaError DISK_FULL, DISK_FAILED where the end can't be remembered; it is all there nevertheless.
   */
  async stored(object: LackedObject): Promise<void> {
    this.#state = object.after;
    if (this.isComplete) await this.#folder.complete();
  }

  /**
   * Its folder holds what somebody else wrote: no later process writes there either.
   * @throws ReplicaError DISK_FULL, DISK_FAILED.
   */
  async refuse(message: string): Promise<void> {
    await this.#folder.refuse(message);
  }

  async #piece(generation: LocalGeneration, index: number, end: LogEnd): Promise<LackedObject> {
    const { files, writer } = this.#parts;
    const { body, rdbBytes, rdbCrc64 } = await files.piece(generation, index, async (data) => {
      const made = await encodePiece(data, writer);
      return { body: made.body, rdbBytes: data.bytes, rdbCrc64: made.crc64 };
    });
    const name = pieceName(index, writer.encryption !== undefined);
    const sha256 = await sha256Of(body);
    const sent = { index, name, bytes: body.length, sha256: sha256.toString("hex") };
    // Before it is sent: a start after a kill finds it in the archive, and must know its checksum.
    await this.#folder.add({ ...sent, rdbBytes, rdbCrc64 });
    return {
      kind: "piece",
      key: `${baseFolder(this.#folder.name)}/${name}`,
      body,
      sha256,
      after: { at: "base", pieces: index + 1, end },
    };
  }

  async #baseDocument(
    generation: LocalGeneration,
    count: number,
    end: LogEnd,
  ): Promise<LackedObject> {
    const pieces = Array.from({ length: count }, (_, index) => this.#sent(index));
    let whole = 0n;
    for (const { rdbCrc64, rdbBytes } of pieces) whole = crc64OfBoth(whole, rdbCrc64, rdbBytes);
    if (!(await this.#parts.files.isSound(generation, whole))) {
      throw new ReplicaError("DIRECTORY_DAMAGED", {
        retry: "never",
        message: `${generation.basePath} is not the snapshot that was received: its archive stays without ${BASE_FILE}, so nobody restores it; run replica verify`,
      });
    }
    const document: BaseDocument = {
      format: ARCHIVE_FORMAT,
      // When the snapshot was, not when its last piece was sent: the same at each try, so that the bytes are the same.
      finished: new Date(generation.startedMs).toISOString(),
      rdbBytes: generation.rdbBytes,
      rdbCrc64: generation.rdbCrc64,
      pieces: pieces.map(({ name, bytes, sha256, rdbBytes }) => ({
        name,
        bytes,
        sha256,
        rdbBytes,
      })),
    };
    return {
      kind: "document",
      key: generationKey(this.#folder.name, BASE_FILE),
      body: encodeDocument("base", document),
      after: { at: "log", end },
    };
  }

  #sent(index: number): SentPiece {
    const piece = this.#folder.piece(index);
    invariant(piece !== undefined, "every piece is remembered before it is sent");
    return piece;
  }

  async #segmentThatLacks(
    generation: LocalGeneration,
    end: LogEnd,
    isDue: boolean,
    signal: AbortSignal,
  ): Promise<LackedObject | undefined> {
    const object = await this.#segment(generation, end, isDue);
    if (object?.kind !== "segment" || !this.#isListed) return object;
    const there = await this.#parts.store.get(object.key, ONE_BYTE, signal);
    this.#isListed = false;
    if (there === undefined) return object;
    // Its name says that it holds the same, but encrypted to other bytes that would be in conflict.
    this.#state = object.after;
    const reached = object.after.at === "log" ? object.after.end : end;
    return await this.#segment(generation, reached, isDue);
  }

  async #segment(
    generation: LocalGeneration,
    end: LogEnd,
    isDue: boolean,
  ): Promise<LackedObject | undefined> {
    const { sealed, settledOffset } = generation;
    const waitingBytes = settledOffset - end.offset;
    if (waitingBytes <= 0) return sealed === undefined ? undefined : this.#sealed(end, sealed);
    if (!isDue && sealed === undefined && waitingBytes < AT_ONCE_BYTES) return undefined;
    const { files, writer } = this.#parts;
    return await files.segment(generation, end, async (header, data) => {
      const { body, crcTo } = await encodeSegment(header, data, writer);
      const { from, to } = header;
      const name = segmentName({ from, to, crc: crcTo }, writer.encryption !== undefined);
      return {
        kind: "segment",
        key: `${logFolder(this.#folder.name)}/${name}`,
        body,
        after: { at: "log", end: { offset: to, crc: crcTo } },
      };
    });
  }

  #sealed(
    { offset, crc }: LogEnd,
    { atMs, reason }: NonNullable<LocalGeneration["sealed"]>,
  ): LackedObject {
    const document = {
      format: ARCHIVE_FORMAT,
      sealed: new Date(atMs).toISOString(),
      reason,
      endOffset: offset,
      endCrc64: hex64(crc),
    };
    return {
      kind: "document",
      key: generationKey(this.#folder.name, SEALED_FILE),
      body: encodeDocument("sealed", document),
      after: { at: "complete" },
    };
  }
}

/** The error for a generation that an earlier process has given up. */
function stillInConflict(conflict: string, memoryPath: string): ReplicaError {
  return new ReplicaError("ARCHIVE_CONFLICT", {
    retry: "never",
    message: `${conflict}; remove ${memoryPath} to archive it anew`,
  });
}

/** Whether a folder holds what this writer would write: its document says how. */
function isWrittenSo({ codec, recipients }: GenerationDocument, writer: ObjectWriter): boolean {
  const wanted = writer.encryption?.recipients ?? [];
  return codec === writer.codec && recipients.join() === wanted.join();
}

/**
 * Where the newest one of the generations before this one is archived. That of a copy's origin isn't the copy's: the two
 * may follow different primaries.
 * @throws ReplicaError DISK_FAILED; of the ledger.
 */
async function predecessor(
  { disk, archive, source }: GenerationWriterParts,
  id: number,
): Promise<OwnFolder | undefined> {
  const before = source.generations().filter((one) => one.id < id);
  for (const { memoryPath } of before.toReversed()) {
    const found = await OwnFolder.open(disk, memoryPath, archive);
    if (found !== undefined) return found;
  }
  return undefined;
}

function documentOf(
  { writer, source, program, random }: GenerationWriterParts,
  { id, startedMs, primaryName, baseOffset, arriving }: LocalGeneration,
  { lineage, madeBy }: { lineage: string; madeBy: Awaited<ReturnType<LocalFiles["madeBy"]>> },
): GenerationDocument {
  return {
    format: ARCHIVE_FORMAT,
    started: new Date(startedMs).toISOString(),
    program,
    primary: primaryName,
    ...madeBy,
    replid: arriving ?? historyAfter(source.histories(id), baseOffset) ?? madeUpReplid(random),
    baseOffset,
    codec: writer.codec,
    recipients: [...(writer.encryption?.recipients ?? [])],
    lineage: { name: lineage, generation: id },
  };
}

/** A primary that knows only SYNC names no history. One of its own keeps the log from being taken for another's. */
function madeUpReplid(random: () => number): string {
  const digit = () => Math.floor(random() * 16).toString(16);
  return Array.from({ length: REPLID_CHARACTERS }, digit).join("");
}
