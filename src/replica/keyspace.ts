import { type DatabaseKeys, readSnapshotKeys } from "../store/generation/snapshot-keys.ts";
import type { Generation } from "../store/ledger/ledger.ts";

/** How many keys there were at a time. A replica that lives on disk counts none itself. */
export interface KnownKeyspace {
  /** Those that hold keys, as far as they are known. */
  readonly databases: readonly DatabaseKeys[];
  /** Whether no other database holds keys. */
  readonly isWhole: boolean;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

/** Looks up how many keys are in what is served. */
export class Keyspace {
  readonly #basePath: (id: number) => string;
  /** What the snapshot looked at last says; it does not change. */
  #looked: { readonly id: number; readonly known: KnownKeyspace | undefined } | undefined;

  /** @param basePath the path of a generation's snapshot. */
  constructor(basePath: (id: number) => string) {
    this.#basePath = basePath;
  }

  /** What a generation's snapshot says of its keys; undefined where it doesn't. */
  ofSnapshot({
    id,
    currentAtMs,
  }: Pick<Generation, "id" | "currentAtMs">): KnownKeyspace | undefined {
    if (this.#looked?.id !== id) {
      const said = readSnapshotKeys(this.#basePath(id));
      const known = said && {
        databases: said.first === undefined ? [] : [said.first],
        isWhole: said.first === undefined,
        atMs: said.savedAtMs ?? currentAtMs ?? 0,
      };
      this.#looked = { id, known };
    }
    return this.#looked.known;
  }
}
