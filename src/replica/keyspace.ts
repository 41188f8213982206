import { type DatabaseKeys, readSnapshotKeys } from "../store/generation/snapshot-keys.ts";
import type { Replica } from "./replica.ts";

/** How many keys there were at a time. A replica that lives on disk counts none itself. */
export interface KnownKeyspace {
  /** Who said so: the primary that is followed, or the snapshot of what is served. */
  readonly source: "primary" | "snapshot";
  /** Those that hold keys, as far as they are known. */
  readonly databases: readonly DatabaseKeys[];
  /** Whether no other database holds keys. */
  readonly isWhole: boolean;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

/** Knows how many keys are in what is kept, as far as others say so. */
export class Keyspace {
  readonly #replica: Replica;
  /** What the snapshot looked at last says; it does not change. */
  #looked: { readonly id: number; readonly known: KnownKeyspace | undefined } | undefined;

  constructor(replica: Replica) {
    this.#replica = replica;
  }

  /** The newest that is known; undefined where nobody says. */
  get known(): KnownKeyspace | undefined {
    const { keyspace: said, tellsKeys } = this.#replica.supply;
    const snapshot = this.#ofSnapshot();
    if (said === undefined) return snapshot;
    const { databases, isWhole, saidAtMs } = said;
    const known = { source: "primary" as const, databases, isWhole, atMs: said.atMs ?? saidAtMs };
    if (snapshot === undefined) return known;
    // Another `replica` that knows a snapshot alone may know an older one; both times are of the clock of who made it.
    if (!isWhole) return known.atMs >= snapshot.atMs ? known : snapshot;
    // By this clock: that of the primary, which a snapshot names, may be wrong by any amount.
    return tellsKeys || saidAtMs >= (this.#generation?.currentAtMs ?? 0) ? known : snapshot;
  }

  get #generation() {
    const { endedStream, directory } = this.#replica;
    return endedStream?.generation ?? directory.current;
  }

  #ofSnapshot(): KnownKeyspace | undefined {
    const { directory } = this.#replica;
    const generation = this.#generation;
    if (generation === undefined) return undefined;
    const { id, currentAtMs } = generation;
    if (this.#looked?.id !== id) {
      const read = readSnapshotKeys(directory.basePath(id));
      const known = read && {
        source: "snapshot" as const,
        databases: read.first === undefined ? [] : [read.first],
        isWhole: read.first === undefined,
        atMs: read.savedAtMs ?? currentAtMs ?? 0,
      };
      this.#looked = { id, known };
    }
    return this.#looked.known;
  }
}
