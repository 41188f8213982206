import type { Offset, Position } from "../../base/history.ts";
import { logger } from "../../base/logger.ts";
import type { Ledger, Mark } from "../ledger/ledger.ts";
import type { RecentTables } from "../recent/recent-tables.ts";
import type { SnapshotWriter } from "./snapshot.ts";
import type { StreamLog } from "./stream-log.ts";

/** What a mark promises: what was written at this time is durable up to this offset. */
export type KeptMark = Pick<Mark, "atMs" | "durableOffset">;

/** What carries the generations of a data directory to an archive. */
export interface Carrier {
  /** More of the current generation's log is durable, and its marks stay as they are. */
  moved(settledOffset: Offset): void;
  /** A generation became current, or the log of a sealed one is closed. */
  changed(): void;
  /** Up to where a generation that isn't all there yet can be restored from the archive; undefined while it can't. */
  archivedOffset(id: number): Offset | undefined;
  /** Whether the archive has all of a sealed generation. */
  has(id: number): boolean;
  /** Up to `offset`, the current generation's log is wanted there as soon as it is durable. */
  want(offset: Offset): void;
}

/** A log while marks of it may come. */
type OpenLog = Pick<StreamLog, "settledOffset" | "settle">;

/** A generation whose snapshot is coming in, of a history that is known. */
export interface Arriving {
  readonly id: number;
  readonly primaryName: string;
  /** The history, and the offset of the last byte in the snapshot. */
  readonly position: Position;
  readonly writer: Pick<SnapshotWriter, "path" | "syncedBytes" | "isClosed">;
}

/** How many generations before the current one are looked at for what is archived. */
const MAX_BEFORE = 100;

/**
 * What a data directory holds: up to which moment, from which moment on, how large its snapshots are, and how much of it
 * is in an archive, too.
 */
export class Holdings {
  /** What carries it to an archive; undefined where nothing does. Set before anything is followed. */
  carrier: Carrier | undefined;
  /** Called after the archive has got more. */
  onArchived: () => void = () => undefined;
  /** Whether the row that makes another generation current is being committed, or synced. */
  isPromoting = false;
  #arriving: Arriving | undefined;
  /** The generations whose stream the current one goes on with, newest first, and where their logs were durable. */
  #before: readonly { readonly id: number; readonly endOffset: Offset }[] = [];
  readonly #ledger: Ledger;
  /** The open logs of each generation: one that failed may still be closing when another is opened. */
  readonly #open = new Map<number, Set<OpenLog>>();
  /** The current generation and its last mark; undefined where nothing is kept yet. */
  #last: { readonly id: number; readonly mark: KeptMark } | undefined;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  /** What happened lately, for people. */
  get recent(): RecentTables {
    return this.#ledger.recent;
  }

  /** A snapshot begins to come in. */
  arrives(arriving: Arriving): void {
    this.#arriving = arriving;
    this.carrier?.changed();
  }

  /** The generation whose snapshot is coming in; undefined once that has ended, or is whole. */
  get arriving(): Arriving | undefined {
    if (this.#arriving?.writer.isClosed === true) this.#arriving = undefined;
    return this.#arriving;
  }

  /**
   * This generation is the current one from now on, and `mark` its last mark.
   * @param goesOn whether its stream is that of the one before.
   */
  begin(id: number, mark: KeptMark, goesOn = false): void {
    const before = this.#last;
    const isFurther = goesOn && before !== undefined;
    this.#before = isFurther
      ? [{ id: before.id, endOffset: before.mark.durableOffset }, ...this.#before].slice(
          0,
          MAX_BEFORE,
        )
      : [];
    this.#last = { id, mark };
    this.carrier?.changed();
  }

  /** A mark of this generation is durable. */
  add(id: number, mark: KeptMark): void {
    if (id !== this.#last?.id) return;
    this.#last = { id, mark };
  }

  /** A log of this generation was opened. */
  opened(id: number, log: OpenLog): void {
    const logs = this.#open.get(id) ?? new Set();
    this.#open.set(id, logs.add(log));
  }

  /** More of its marks is settled. */
  settled(id: number): void {
    const offset = this.settledOffset(id);
    if (id === this.#last?.id && offset !== undefined) this.carrier?.moved(offset);
  }

  /** It is closed: no further mark of it comes, so all are settled. */
  closed(id: number, log: OpenLog): void {
    const logs = this.#open.get(id);
    logs?.delete(log);
    if (logs !== undefined && logs.size > 0) return;
    this.#open.delete(id);
    this.carrier?.changed();
  }

  /** Up to where no mark of a generation is replaced by a later one; undefined: none is, since its log isn't open. */
  settledOffset(id: number): Offset | undefined {
    const logs = this.#open.get(id);
    return logs && Math.min(...[...logs].map(({ settledOffset }) => settledOffset));
  }

  /** See `StreamLog.settle`. */
  settle(id: number, offset: Offset): void {
    for (const log of this.#open.get(id) ?? []) log.settle(offset);
  }

  /** Whether marks of this generation may come. */
  isOpen(id: number): boolean {
    return this.#open.has(id);
  }

  /**
   * Up to where the current stream can be restored from the archive: from the current generation, or, while its base isn't
   * there, from those before it. 0 while it can't.
   */
  get archivedOffset(): Offset {
    const { carrier } = this;
    if (this.#last === undefined || carrier === undefined) return 0;
    const own = carrier.archivedOffset(this.#last.id);
    if (own !== undefined) return own;
    for (const { id, endOffset } of this.#before) {
      const archived = carrier.archivedOffset(id) ?? (carrier.has(id) ? endOffset : undefined);
      if (archived !== undefined) return archived;
    }
    return 0;
  }

  /**
   * Whether no power cut takes back which generation is current, and which are sealed: a row that is committed may be
   * seen before it is synced, and stays where its sync failed.
   */
  get isCertain(): boolean {
    return !this.isPromoting && this.#ledger.isSynced;
  }

  /** Makes it so. @throws ReplicaError DISK_FULL, DISK_FAILED. */
  async ascertain(): Promise<void> {
    await this.#ledger.sync();
  }

  /** See `Carrier.want`. */
  wantArchived(offset: Offset): void {
    this.carrier?.want(offset);
  }

  /** Up to where the last mark covers the current generation's log; undefined where nothing is kept yet. */
  get durableOffset(): Offset | undefined {
    return this.#last?.mark.durableOffset;
  }

  /** The time of the last mark, in milliseconds since 1970; undefined where nothing is kept yet. */
  get lastMs(): number | undefined {
    return this.#last?.mark.atMs;
  }

  /**
   * The earliest time that `restore --at` takes, in milliseconds since 1970; undefined where nothing is kept yet.
   * @throws ReplicaError of the ledger.
   */
  get firstMs(): number | undefined {
    return this.#ledger.firstMarkMs();
  }

  /**
   * The primary that the current generation's stream came from last, as a URL without its password; undefined
   * where nothing is kept yet. A failure of the database is logged, and stops nothing.
   */
  get primaryName(): string | undefined {
    return warned(() => this.#ledger.current()?.primaryName);
  }

  /** Whether all that is kept was fetched from an archive, and no primary has continued it. @throws ReplicaError of the ledger. */
  get isFetched(): boolean {
    return this.#ledger.isFetched();
  }

  /** The primaries that the kept generations came from last, the newest first. @throws ReplicaError of the ledger. */
  primaryNames(): readonly string[] {
    return this.#ledger.whole().map(({ primaryName }) => primaryName);
  }

  /** Whether anything kept was ever in this history. @throws ReplicaError of the ledger. */
  knows(replid: string): boolean {
    const isIn = ({ id }: { readonly id: number }) =>
      this.#ledger.replicationIds(id).some((history) => history.replid === replid);
    return this.#ledger.whole().some(isIn);
  }

  /** The current generation's stream comes from this primary from now on. A failure is logged, and stops nothing. */
  followedFrom(primaryName: string): void {
    if (this.primaryName !== primaryName) warned(() => this.#ledger.followedFrom(primaryName));
  }

  /** Size of the snapshots of all whole generations. @throws ReplicaError of the ledger. */
  get snapshotBytes(): number {
    return this.#ledger.snapshotBytes();
  }
}

function warned<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch (error) {
    logger.warn(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}
