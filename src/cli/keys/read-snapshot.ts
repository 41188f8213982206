import { ReplicaError } from "../../base/errors.ts";
import type { KeyReport } from "../../inspect/keys/key-report.ts";
import { serverOf } from "../../rdb/made-by.ts";
import type { RdbReaderSummary } from "../../rdb/reader/entry.ts";
import { RdbReader } from "../../rdb/reader/rdb-reader.ts";
import type { ReadSnapshot } from "./keys-report.ts";
import type { SnapshotSource } from "./snapshot-source.ts";

export interface ReadSnapshotOptions {
  readonly signal: AbortSignal;
  /** What time it is, in milliseconds since 1970: for a snapshot of which no time is known. */
  readonly nowMs: number;
  /** @param totalBytes undefined: unknown. */
  readonly onProgress: (place: string, bytes: number, totalBytes: number | undefined) => void;
}

/** What keeps a snapshot from being read to its end, but not from telling what was read before. */
const PARTIAL = [
  "BAD_PAYLOAD",
  "BAD_CHECKSUM",
  "DIRECTORY_DAMAGED",
  "ARCHIVE_DAMAGED",
  "ARCHIVE_FAILED",
  "DISK_FAILED",
];

/** The auxiliary fields that are told. */
const TOLD = ["ctime", "redis-ver", "valkey-ver"];
/** The last second that JavaScript has a date for. */
const MAX_TIME_S = 8_640_000_000_000;

/**
 * Reads a snapshot, and counts its keys in a report.
 * @returns what was read, and why no more; undefined where it was read to its end and is sound.
 * @throws ReplicaError where nothing can be read, whatever the bytes are: USAGE, STOPPED, of the store.
 */
export async function readSnapshot(
  source: SnapshotSource,
  report: KeyReport,
  options: ReadSnapshotOptions,
): Promise<{ readonly snapshot: ReadSnapshot; readonly error: ReplicaError | undefined }> {
  const reading = new Reading(source, report, options.nowMs);
  let summary: RdbReaderSummary | undefined;
  let error: ReplicaError | undefined;
  try {
    summary = await reading.run(options);
  } catch (caught) {
    options.signal.throwIfAborted();
    if (!(caught instanceof ReplicaError) || !PARTIAL.includes(caught.code)) throw caught;
    const isRdb = caught.code === "BAD_PAYLOAD" || caught.code === "BAD_CHECKSUM";
    error = isRdb ? source.damaged(caught.message, reading.keys, caught) : caught;
  }
  return { snapshot: reading.result(summary, error), error };
}

/** One snapshot that is being read. */
class Reading {
  readonly #source: SnapshotSource;
  readonly #report: KeyReport;
  readonly #nowMs: number;
  readonly #aux = new Map<string, string>();
  readonly #reader: RdbReader;
  #bytes = 0;
  /** How many keys were read, also such as weren't chosen. */
  keys = 0;
  /** Undefined before the first key. */
  #begun: Pick<ReadSnapshot, "atMs" | "atFrom"> | undefined;

  constructor(source: SnapshotSource, report: KeyReport, nowMs: number) {
    this.#source = source;
    this.#report = report;
    this.#nowMs = nowMs;
    this.#reader = new RdbReader({
      entry: (entry) => {
        this.#begun ??= this.#begin();
        report.add(entry);
        this.keys++;
      },
      aux: (name, value) => {
        if (value !== undefined && TOLD.includes(name))
          this.#aux.set(name, Buffer.from(value).toString("latin1"));
      },
    });
  }

  async run({ signal, onProgress }: ReadSnapshotOptions): Promise<RdbReaderSummary> {
    const { place, rdbBytes } = this.#source;
    const onBytes = (bytes: Uint8Array) => {
      this.#reader.push(bytes);
      this.#bytes += bytes.length;
      onProgress(place, this.#bytes, rdbBytes);
    };
    await this.#source.read(onBytes, signal);
    if (this.#bytes === 0)
      throw new ReplicaError("BAD_PAYLOAD", { retry: "never", message: "it is empty" });
    const summary = this.#reader.finish();
    const complaint = this.#source.complaint(summary);
    if (complaint === undefined) return summary;
    throw new ReplicaError("BAD_CHECKSUM", { retry: "never", message: complaint });
  }

  /** The moment that expiries are compared with: the snapshot's own, which its head tells. */
  #begin(): Pick<ReadSnapshot, "atMs" | "atFrom"> {
    const ctime = this.#aux.get("ctime") ?? "";
    const seconds = /^\d{1,13}$/.test(ctime) ? Number(ctime) : Infinity;
    const { atMs } = this.#source;
    const moment =
      seconds <= MAX_TIME_S
        ? ({ atMs: seconds * 1000, atFrom: "snapshot" } as const)
        : atMs !== undefined
          ? ({ atMs, atFrom: "generation" } as const)
          : ({ atMs: this.#nowMs, atFrom: "now" } as const);
    this.#report.begin(moment.atMs);
    return moment;
  }

  result(summary: RdbReaderSummary | undefined, error: ReplicaError | undefined): ReadSnapshot {
    this.#begun ??= this.#begin();
    const { shard, generation, offset, logBytes, rdbBytes } = this.#source;
    return {
      shard,
      generation,
      offset,
      logBytes,
      format: this.#reader.format,
      server: serverOf({ aux: this.#aux }),
      ...this.#begun,
      readBytes: this.#bytes,
      rdbBytes,
      functionLibraries: summary?.functionLibraries,
      damage: error?.message,
    };
  }
}
