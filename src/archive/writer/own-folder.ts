import * as fs from "node:fs";
import { dirname } from "node:path";
import * as z from "zod";
import { hex64 } from "../../base/hex64.ts";
import { logger } from "../../base/logger.ts";
import { closeQuietly, type Disk, diskError } from "../../store/disk/disk.ts";
import { ReplicaError } from "../../base/errors.ts";
import { decodeDocument, encodeDocument, type GenerationDocument } from "../format/documents.ts";
import { parseGenerationName } from "../format/names.ts";

/** A piece of a base as it lies in the archive. */
export interface SentPiece {
  readonly index: number;
  readonly name: string;
  /** The object's size and SHA-256. */
  readonly bytes: number;
  readonly sha256: string;
  /** What it holds of the RDB, and the CRC64 of that. */
  readonly rdbBytes: number;
  readonly rdbCrc64: bigint;
}

const crc64 = z.string().regex(/^[0-9a-f]{16}$/);
const first = z.object({
  format: z.literal(1),
  archive: z.string(),
  file: z.string(),
  name: z.string().refine((name) => parseGenerationName(name) !== undefined),
  /** As it is stored, byte for byte. */
  document: z.string(),
});
const piece = z.object({
  index: z.int().min(0),
  name: z.string(),
  bytes: z.int(),
  sha256: z.string(),
  rdbBytes: z.int(),
  rdbCrc64: crc64,
});
const complete = z.object({ complete: z.literal(true) });
const conflict = z.object({ conflict: z.string() });
const later = z.union([piece, complete, conflict]);

/** The most that is read of such a file: some 200 bytes a piece, for a base of two TiB. */
const MAX_BYTES = 32 * 1024 * 1024;

/**
 * Remembers, in a file beside a generation's own, in which folder of which archive it is archived. A copy of the file
 * knows itself as one: it names its own inode, so the copy of a data directory gets folders of its own. It grows by a line
 * for each piece before that is sent, since only the sender knows the piece's checksum; so a start after a kill knows
 * it too.
 */
export class OwnFolder {
  readonly name: string;
  readonly document: GenerationDocument;
  /** The document as it is stored: the same bytes at each try, whatever program goes on. */
  readonly storedDocument: Uint8Array;
  readonly #disk: Disk;
  readonly #path: string;
  readonly #pieces = new Map<number, readonly SentPiece[]>();
  #bytes: number;
  #isComplete = false;
  #conflict: string | undefined;

  private constructor(disk: Disk, path: string, text: string) {
    const [line = "", ...lines] = text.trimEnd().split("\n");
    const { name, document } = first.parse(JSON.parse(line));
    this.name = name;
    this.storedDocument = Buffer.from(document);
    this.document = decodeDocument("generation", path, this.storedDocument);
    this.#disk = disk;
    this.#path = path;
    this.#bytes = Buffer.byteLength(text);
    for (const each of lines) this.#take(later.parse(JSON.parse(each)));
  }

  #take(read: z.infer<typeof later>): void {
    if ("complete" in read) this.#isComplete = true;
    else if ("conflict" in read) this.#conflict = read.conflict;
    else this.#addPiece({ ...read, rdbCrc64: BigInt(`0x${read.rdbCrc64}`) });
  }

  #addPiece(sent: SentPiece): void {
    this.#pieces.set(sent.index, [...this.candidates(sent.index), sent]);
  }

  /** Whether the archive holds all of the generation, and it is sealed. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Why nothing more may be written to that folder: it holds what somebody else wrote. */
  get conflict(): string | undefined {
    return this.#conflict;
  }

  /** A piece as it was sent last, or was about to be; undefined where it never was. */
  piece(index: number): SentPiece | undefined {
    return this.candidates(index).at(-1);
  }

  /** All ways in which a piece was about to be sent, in their order: one of them may have been, whatever came after. */
  candidates(index: number): readonly SentPiece[] {
    return this.#pieces.get(index) ?? [];
  }

  /**
   * Reads what is remembered of a generation.
   * @param archive which archive it is about.
   * @returns undefined where nothing is, or what is there is about another archive, is a copy or damaged.
   * @throws ReplicaError DISK_FAILED.
   */
  static async open(disk: Disk, path: string, archive: string): Promise<OwnFolder | undefined> {
    if (!fs.existsSync(path)) return undefined;
    try {
      const fd = disk.openToRead(path);
      try {
        const file = inodeOf(fd);
        const text = await readText(disk, fd);
        // A kill, or a power cut, may have torn the last line: it was never relied on.
        const whole = text.slice(0, text.lastIndexOf("\n") + 1);
        const head = first.safeParse(parsed(whole.slice(0, whole.indexOf("\n"))));
        if (!head.success || head.data.archive !== archive || head.data.file !== file)
          return undefined;
        return new OwnFolder(disk, path, whole);
      } finally {
        closeQuietly(disk, fd);
      }
    } catch (cause) {
      const isDamaged =
        cause instanceof z.core.$ZodError ||
        cause instanceof SyntaxError ||
        (cause instanceof ReplicaError && cause.retry === "never");
      if (!isDamaged) throw diskError("reading", path, cause);
      logger.warn(`${path} is damaged: its generation is archived anew`);
      return undefined;
    }
  }

  /** Remembers a new folder, durably, in place of what was remembered. @throws ReplicaError DISK_FULL, DISK_FAILED. */
  static async create(
    disk: Disk,
    path: string,
    archive: string,
    name: string,
    document: GenerationDocument,
  ): Promise<OwnFolder> {
    const temporary = `${path}.tmp`;
    try {
      disk.remove(temporary);
      const fd = disk.create(temporary);
      let text: string;
      try {
        const stored = Buffer.from(encodeDocument("generation", document)).toString();
        const head = { format: 1, archive, file: inodeOf(fd), name, document: stored };
        text = `${JSON.stringify(head)}\n`;
        await disk.write(fd, [Buffer.from(text)], 0);
        await disk.syncData(fd);
      } finally {
        closeQuietly(disk, fd);
      }
      // The inode stays the same.
      disk.rename(temporary, path);
      await disk.syncDir(dirname(path));
      return new OwnFolder(disk, path, text);
    } catch (cause) {
      throw diskError("writing", path, cause);
    }
  }

  /** Remembers a piece that is about to be sent, durably. @throws ReplicaError DISK_FULL, DISK_FAILED. */
  async add(sent: SentPiece): Promise<void> {
    await this.#append({ ...sent, rdbCrc64: hex64(sent.rdbCrc64) });
    this.#addPiece(sent);
  }

  /** Remembers, durably, that the archive lacks nothing any more. @throws ReplicaError DISK_FULL, DISK_FAILED. */
  async complete(): Promise<void> {
    await this.#append({ complete: true });
    this.#isComplete = true;
  }

  /** Remembers, durably, that nothing more may be written there. @throws ReplicaError DISK_FULL, DISK_FAILED. */
  async refuse(message: string): Promise<void> {
    await this.#append({ conflict: message });
    this.#conflict = message;
  }

  async #append(line: object): Promise<void> {
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
    try {
      // What an append that failed, or a kill, has left.
      if (this.#disk.sizeOf(this.#path) !== this.#bytes)
        this.#disk.truncate(this.#path, this.#bytes);
      const fd = this.#disk.openExisting(this.#path);
      try {
        await this.#disk.write(fd, [bytes], this.#bytes);
        await this.#disk.syncData(fd);
      } finally {
        closeQuietly(this.#disk, fd);
      }
      this.#bytes += bytes.length;
    } catch (cause) {
      throw diskError("writing", this.#path, cause);
    }
  }
}

/** What tells a file from all others, and from each copy of it: its inode, and when that was made. */
function inodeOf(fd: number): string {
  const { ino, birthtimeNs } = fs.fstatSync(fd, { bigint: true });
  return `${ino}.${birthtimeNs}`;
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

async function readText(disk: Disk, fd: number): Promise<string> {
  const size = Math.min(fs.fstatSync(fd).size, MAX_BYTES);
  const buffer = Buffer.alloc(size);
  let at = 0;
  while (at < size) {
    const read = await disk.read(fd, buffer.subarray(at), at);
    if (read === 0) break;
    at += read;
  }
  return buffer.toString("utf8", 0, at);
}
