import type { Offset } from "../../base/history.ts";
import { logger } from "../../base/logger.ts";
import type { Ledger, Mark } from "../ledger/ledger.ts";

/** What a mark promises: what was written at this time is durable up to this offset. */
export type KeptMark = Pick<Mark, "atMs" | "durableOffset">;

/** What a data directory holds: up to which moment, from which moment on, and how large its snapshots are. */
export class Holdings {
  readonly #ledger: Ledger;
  /** The current generation and its last mark; undefined where nothing is kept yet. */
  #last: { readonly id: number; readonly mark: KeptMark } | undefined;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  /** This generation is the current one from now on, and `mark` its last mark. */
  begin(id: number, mark: KeptMark): void {
    this.#last = { id, mark };
  }

  /** A mark of this generation is durable. */
  add(id: number, mark: KeptMark): void {
    if (id === this.#last?.id) this.#last = { id, mark };
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
