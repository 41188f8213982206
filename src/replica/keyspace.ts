import type { Clock } from "../base/clock.ts";
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
  readonly #clock: Clock;
  /** What the primary said last, while all that it sent was here. */
  #said: KnownKeyspace | undefined;
  /** What the snapshot looked at last says; it does not change. */
  #looked: { readonly id: number; readonly known: KnownKeyspace | undefined } | undefined;

  constructor(replica: Replica, clock: Clock) {
    this.#replica = replica;
    this.#clock = clock;
  }

  /** The newest that is known; undefined where nobody says. */
  get known(): KnownKeyspace | undefined {
    this.#listen();
    const said = this.#said;
    const snapshot = this.#ofSnapshot();
    return said !== undefined && said.atMs >= (snapshot?.atMs ?? 0) ? said : snapshot;
  }

  #listen(): void {
    const { state, supply } = this.#replica;
    // While a snapshot arrives, the primary speaks of what is not here yet.
    const keyspace = state.at === "connected" ? supply.facts?.keyspace : undefined;
    if (keyspace === undefined) return;
    const { databases, isWhole, atMs } = keyspace;
    const saidAtMs = this.#clock.now() - supply.factsAgeMs;
    this.#said = { source: "primary", databases, isWhole, atMs: atMs ?? saidAtMs };
  }

  #ofSnapshot(): KnownKeyspace | undefined {
    const { endedStream, directory } = this.#replica;
    const generation = endedStream?.generation ?? directory.current;
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
