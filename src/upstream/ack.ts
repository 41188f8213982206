import type { Offset } from "../base/history.ts";
import type { Holdings } from "../store/generation/holdings.ts";
import type { StreamLog } from "../store/generation/stream-log.ts";

/** The log's cursors, and how its bytes become durable at once. */
type AckedLog = Pick<StreamLog, "writtenOffset" | "durableOffset" | "sync">;

/** What the archive has of the log that is followed; see `Holdings`. */
export type AckedArchive = Pick<Holdings, "archivedOffset" | "wantArchived" | "onArchived">;

/** What ACK tells. */
export type Acked = "written" | "durable" | "archived";

/** Sends REPLCONF ACK. */
export interface AckLink {
  acknowledge(acked: Offset, durable: Offset): void;
}

/**
 * Decides what is acknowledged, and when. ACK never says more than what is written, or, with `--ack
 * durable`, durable, or, with `--ack archived`, in the archive; FACK always says what is durable.
 */
export class Ack {
  readonly #kept: Acked;
  readonly #link: AckLink;
  readonly #archive: AckedArchive;
  #log: AckedLog | undefined;
  /**
   * The first and the last of the GETACKs that wait until their offsets are reached. While they come
   * faster than the disk keeps up, the last one is never reached: the first one is answered by then.
   */
  #owed: { readonly first: Offset; readonly last: Offset } | undefined;
  #toldDurableOffset: Offset = 0;

  /**
   * @param kept what ACK tells: `written`, as Redis does, or less.
   * @param archive for `archived`.
   */
  constructor(kept: Acked, link: AckLink, archive: AckedArchive) {
    this.#kept = kept;
    this.#link = link;
    this.#archive = archive;
    if (kept === "archived") archive.onArchived = () => this.moved();
  }

  /**
   * Acknowledges this log from now on; undefined where there is none, or no history that the primary
   * knows. It knows what is durable of it already.
   */
  follow(log: AckedLog | undefined): void {
    this.#log = log;
    if (log === undefined) this.#owed = undefined;
    else this.#toldDurableOffset = log.durableOffset;
  }

  /** Acknowledges as soon as everything up to `offset` is written, or durable or archived where ACK tells that. */
  ask(offset: Offset): void {
    if (this.#offset() >= offset) return this.send();
    // An older one may be of another history, in which offsets were higher.
    this.#owed = { first: Math.min(this.#owed?.first ?? offset, offset), last: offset };
    this.#syncWhatIsOwed();
  }

  /** The log's cursors, or the archive's, have moved. */
  moved(): void {
    const owed = this.#owed !== undefined && this.#offset() >= this.#owed.first;
    // After each data sync, so that WAITAOF on the primary waits no longer than the disk.
    const synced = (this.#log?.durableOffset ?? 0) > this.#toldDurableOffset;
    if (owed || synced) this.send();
    this.#syncWhatIsOwed();
  }

  /** Acknowledges the cursors as they are. */
  send(): void {
    this.#settle();
    const log = this.#log;
    if (log === undefined) return;
    this.#toldDurableOffset = log.durableOffset;
    this.#link.acknowledge(this.#offset(), log.durableOffset);
  }

  /** GETACKs up to here are answered; the last one may wait on. */
  #settle(): void {
    if (this.#owed === undefined || this.#offset() < this.#owed.first) return;
    const { last } = this.#owed;
    this.#owed = this.#offset() >= last ? undefined : { first: last, last };
  }

  #offset(): Offset {
    const log = this.#log;
    if (log === undefined) return 0;
    if (this.#kept === "written") return log.writtenOffset;
    if (this.#kept === "durable") return log.durableOffset;
    // What the archive has is durable here, too, unless the log was cut back since.
    return Math.min(this.#archive.archivedOffset, log.durableOffset);
  }

  /** Syncs for a GETACK that waits for durable bytes, as soon as those are written; and has the archive sent them. */
  #syncWhatIsOwed(): void {
    const log = this.#log;
    if (this.#kept === "written" || log === undefined || this.#owed === undefined) return;
    const { first } = this.#owed;
    if (this.#kept === "archived") this.#archive.wantArchived(first);
    if (log.writtenOffset >= first && log.durableOffset < first) void log.sync();
  }
}
