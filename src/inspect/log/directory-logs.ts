import type { ReplicaError } from "../../base/errors.ts";
import type { Offset, ReplicationIdFrom } from "../../base/history.ts";
import { closeQuietly, type Disk, diskError } from "../../store/disk/disk.ts";
import { fileByteOf, filesOf, offsetOfByte } from "../../store/generation/layout.ts";
import type { Moment } from "../../store/ledger/ledger-reader.ts";
import { Catalogue } from "../../store/restore/catalogue.ts";
import { damageError } from "../../store/restore/damage.ts";
import type { KeptGeneration } from "../../store/restore/kept-generation.ts";
import type { KeptLog, LogBlock, LogSource } from "./kept-log.ts";

/** The size of one read: what is chosen of it is in memory at once. */
const BLOCK_BYTES = 256 * 1024;
/** Marks are a second apart. A look reads a few rows of the database. */
const LOOK_EVERY_MS = 250;

/** The logs of a data directory, while a replica runs on it or not. */
export class DirectoryLogs implements LogSource {
  readonly lookEveryMs = LOOK_EVERY_MS;
  readonly #disk: Disk;
  #catalogue: Catalogue;
  #logs: readonly KeptLog[];

  /** @throws ReplicaError as `Catalogue`. */
  constructor(dir: string, disk: Disk) {
    this.#disk = disk;
    this.#catalogue = new Catalogue(dir);
    this.#logs = this.#logsOf(this.#catalogue);
  }

  get name(): string {
    return this.#catalogue.path;
  }

  get catalogue(): Catalogue {
    return this.#catalogue;
  }

  get logs(): readonly KeptLog[] {
    return this.#logs;
  }

  async look(): Promise<void> {
    const now = new Catalogue(this.#catalogue.path);
    this.#catalogue[Symbol.dispose]();
    this.#catalogue = now;
    this.#logs = this.#logsOf(now);
  }

  #logsOf(catalogue: Catalogue): KeptLog[] {
    return catalogue.generations.map(
      (generation) => new DirectoryLog(this.#disk, catalogue, generation),
    );
  }

  [Symbol.dispose](): void {
    this.#catalogue[Symbol.dispose]();
  }
}

/** The log of one generation of a data directory, as of one look. */
class DirectoryLog implements KeptLog {
  readonly #disk: Disk;
  readonly #catalogue: Catalogue;
  readonly #generation: KeptGeneration;

  constructor(disk: Disk, catalogue: Catalogue, generation: KeptGeneration) {
    this.#disk = disk;
    this.#catalogue = catalogue;
    this.#generation = generation;
  }

  get id(): string {
    return String(this.#generation.id);
  }

  get baseOffset(): Offset {
    return this.#generation.baseOffset;
  }

  get endOffset(): Offset {
    return this.#generation.durableOffset;
  }

  get isSealed(): boolean {
    return this.#generation.state === "sealed";
  }

  get first(): Moment | undefined {
    return this.#generation.first;
  }

  get last(): Moment | undefined {
    return this.#generation.last;
  }

  async histories(): Promise<readonly ReplicationIdFrom[]> {
    return this.#generation.replicationIds;
  }

  async momentBefore(atMs: number): Promise<Moment | undefined> {
    return this.#catalogue.momentBefore(this.#generation.id, atMs);
  }

  async momentsFrom(offset: Offset): Promise<readonly Moment[]> {
    return this.#catalogue.momentsFrom(this.#generation.id, offset);
  }

  async *blocks(
    from: Offset | "beginning",
    to: Offset,
    signal: AbortSignal,
  ): AsyncGenerator<LogBlock, void> {
    const disk = this.#disk;
    const { log: path } = filesOf(this.#generation);
    const end = fileByteOf(this.#generation, to);
    let at = from === "beginning" ? 0 : fileByteOf(this.#generation, from);
    let fd: number;
    try {
      fd = disk.openToRead(path);
    } catch (cause) {
      throw diskError("reading", path, cause);
    }
    const begin = (buffer: Uint8Array, position: number) => {
      const bytes = disk.read(fd, buffer.subarray(0, end - position), position);
      // Where it is never waited for, nobody is told.
      bytes.catch(() => undefined);
      return bytes;
    };
    let [buffer, other] = [new Uint8Array(BLOCK_BYTES), new Uint8Array(BLOCK_BYTES)];
    let coming: Promise<number> | undefined;
    try {
      while (at < end) {
        coming ??= begin(buffer, at);
        let bytes: number;
        try {
          bytes = await coming;
        } catch (cause) {
          throw diskError(`reading byte ${at} of`, path, cause);
        }
        signal.throwIfAborted();
        if (bytes === 0) throw this.#endsEarly(at, end);
        const before = offsetOfByte(this.#generation, at);
        at += bytes;
        coming = at < end ? begin(other, at) : undefined;
        yield { bytes: buffer.subarray(0, bytes), before };
        [buffer, other] = [other, buffer];
      }
    } finally {
      await coming?.catch(() => undefined);
      closeQuietly(disk, fd);
    }
  }

  #endsEarly(at: number, end: number): Error {
    return this.damageError(at, `it ends at byte ${at}, though it was durable up to byte ${end}`);
  }

  damageError(byte: number, what: string): ReplicaError {
    const meaning =
      "what comes behind that byte can't be shown; replica verify tells what is sound";
    return damageError({ file: filesOf(this.#generation).log, byte, what, meaning });
  }
}
