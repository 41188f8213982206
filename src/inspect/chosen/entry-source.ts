import { ReplicaError } from "../../base/errors.ts";
import { encodeEntryHead } from "../../rdb/encode.ts";
import type { RdbKind } from "../../rdb/reader/entry.ts";
import { RdbReader } from "../../rdb/reader/rdb-reader.ts";
import { type Disk, diskError } from "../../store/disk/disk.ts";
import { ReadFile } from "../../store/disk/blocks.ts";

const BLOCK_BYTES = 256 * 1024;

/** A key of an RDB, and where it stands there. */
export interface FoundEntry {
  readonly db: number;
  readonly key: Uint8Array;
  readonly kind: RdbKind;
  readonly opcode: number;
  readonly expiresAtMs: number | undefined;
  readonly idleSeconds: number | undefined;
  readonly frequency: number | undefined;
  readonly elements: number | undefined;
  /** Where it begins, with the opcodes about it; where its value begins; and where both end. */
  readonly startByte: number;
  readonly valueByte: number;
  readonly endByte: number;
  /** The value in a form that stands by itself, where the one in the file needs what stands elsewhere there. */
  readonly standing: Uint8Array | undefined;
}

/** Hashes whose fields stand in a template: they are few bytes, and are of no use without it ("Redis 8.10, rdb.h"). */
const OF_TEMPLATE: ReadonlySet<number> = new Set([30, 32]);

export interface EntrySourceOptions {
  readonly disk: Disk;
  readonly path: string;
  readonly signal: AbortSignal;
  readonly onProgress: (file: string, bytes: number, totalBytes: number) => void;
}

/**
 * Reads an RDB, whose checksum is somebody else's to check, and passes on the keys that are wanted. It holds two blocks of the file and what they list; a value is read
 * from the file when it is asked for, however large it is.
 */
export class EntrySource implements Disposable {
  readonly #options: EntrySourceOptions;
  readonly #file: ReadFile;
  readonly #totalBytes: number;
  /** The block that is being read, and the byte of the file where it begins. */
  #block: Uint8Array = new Uint8Array(0);
  #blockByte = 0;

  /** @throws ReplicaError DISK_FAILED. */
  constructor(options: EntrySourceOptions) {
    this.#options = options;
    const { disk, path } = options;
    try {
      this.#totalBytes = disk.sizeOf(path);
    } catch (cause) {
      throw diskError("reading", path, cause);
    }
    this.#file = new ReadFile(disk, path);
  }

  /**
   * The wanted keys, in the order of the file. Ask for one's bytes before asking for the next.
   * @throws RdbError for a damaged RDB, once everything before the damage has come; RESTORE_UNUSABLE for one in which slots are
   * being moved; DISK_FAILED; the signal's reason.
   */
  async *entries(isWanted: (db: number, key: Uint8Array) => boolean): AsyncGenerator<FoundEntry> {
    const { signal, onProgress, path } = this.#options;
    let found: FoundEntry[] = [];
    const reader = new RdbReader(
      {
        wants: (db, key, opcode) => OF_TEMPLATE.has(opcode) && isWanted(db, key),
        slotImport: () => {
          throw importing(path);
        },
        entry: (entry, value) => {
          const { db, key } = entry;
          if (!isWanted(db, key)) return;
          const { kind, opcode, expiresAtMs, idleSeconds, frequency, elements } = entry;
          const { startByte, endByte } = entry;
          const about = { kind, opcode, expiresAtMs, idleSeconds, frequency, elements };
          const valueByte = endByte - entry.valueBytes;
          const standing = value && Uint8Array.from(value);
          found.push({
            db,
            key: Uint8Array.from(key),
            ...about,
            startByte,
            valueByte,
            endByte,
            standing,
          });
        },
      },
      { checksum: false },
    );
    const buffers = [new Uint8Array(BLOCK_BYTES), new Uint8Array(BLOCK_BYTES)] as const;
    const ask = (at: number, turn: number) => {
      const bytes = Math.min(BLOCK_BYTES, this.#totalBytes - at);
      const read = this.#file.read(buffers[turn % 2]!.subarray(0, bytes), at);
      // Whoever waits for it sees it fail; at times nobody does.
      read.catch(() => undefined);
      return read;
    };
    let next = ask(0, 0);
    try {
      for (let at = 0, turn = 1; at < this.#totalBytes; turn++) {
        this.#block = await next;
        this.#blockByte = at;
        signal.throwIfAborted();
        at += this.#block.length;
        if (at < this.#totalBytes) next = ask(at, turn);
        const failure = pushed(reader, this.#block);
        yield* found;
        found = [];
        if (failure !== undefined) throw failure;
        onProgress(path, at, this.#totalBytes);
      }
    } finally {
      // The file stays open until nothing reads from it any more.
      await next.catch(() => undefined);
    }
    reader.finish();
  }

  /** The value of a key, in memory of its own. @throws ReplicaError DISK_FAILED. */
  async value({ valueByte, endByte, standing }: FoundEntry): Promise<Uint8Array> {
    if (standing !== undefined) return standing;
    const bytes = new Uint8Array(endByte - valueByte);
    const here = this.#here(valueByte, endByte);
    if (here === undefined) return await this.#file.read(bytes, valueByte);
    bytes.set(here);
    return bytes;
  }

  /**
   * Hands on all of a key, with the opcodes about it, in pieces, however large it is.
   * @param take gets views that are valid until it is done.
   */
  async pass(found: FoundEntry, take: (bytes: Uint8Array) => Promise<void>): Promise<void> {
    const { startByte, endByte, standing } = found;
    if (standing !== undefined) {
      await take(encodeEntryHead(found));
      await take(standing);
      return;
    }
    const here = this.#here(startByte, endByte);
    if (here !== undefined) {
      await take(here);
      return;
    }
    const buffer = new Uint8Array(Math.min(BLOCK_BYTES, endByte - startByte));
    for (let at = startByte; at < endByte;) {
      const piece = await this.#file.read(buffer.subarray(0, endByte - at), at);
      this.#options.signal.throwIfAborted();
      await take(piece);
      at += piece.length;
    }
  }

  /** A part of the block that is being read; undefined where it begins before. */
  #here(from: number, to: number): Uint8Array | undefined {
    if (from < this.#blockByte) return undefined;
    return this.#block.subarray(from - this.#blockByte, to - this.#blockByte);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** Which keys are the server's own, only a node of a cluster finds out, and a stock server alone ends at start on it. */
function importing(path: string): ReplicaError {
  return new ReplicaError("RESTORE_UNUSABLE", {
    retry: "never",
    message: `${path} is a snapshot of a moment at which slots were being moved into its server, so which of their keys are its own isn't known: choose another generation, or restore the whole cluster`,
  });
}

/** What is wrong with the bytes; the keys before it count all the same. */
function pushed(reader: RdbReader, block: Uint8Array): unknown {
  try {
    reader.push(block);
    return undefined;
  } catch (error) {
    return error;
  }
}
