import * as fs from "node:fs";
import { join, resolve } from "node:path";
import { shardDirectory } from "../ledger/cluster-schema.ts";
import { ClusterHistory } from "../ledger/cluster-history.ts";
import type { ShardRecord } from "../ledger/shard-records.ts";
import { Catalogue } from "../../store/restore/catalogue.ts";
import { GENERATIONS } from "../../store/generation/layout.ts";
import type { ClusterSource } from "./plan.ts";

/** What a cluster's directory holds, read without changing it. */
export class ClusterDirectory implements ClusterSource, Disposable {
  readonly path: string;
  readonly history: ClusterHistory;
  readonly #shards = new Map<number, Catalogue>();

  /** @throws ReplicaError of `ClusterHistory` and `Catalogue`. */
  constructor(dir: string) {
    this.path = resolve(dir);
    this.history = new ClusterHistory(this.path);
    try {
      for (const { number } of this.history.shards) {
        const path = shardDirectory(this.path, number);
        // A shard that was just found has no directory yet.
        if (fs.existsSync(join(path, GENERATIONS))) this.#shards.set(number, new Catalogue(path));
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** All shards that were ever followed, by their numbers. */
  get records(): readonly ShardRecord[] {
    return this.history.shards;
  }

  /** Those of which something may be kept. */
  get shards(): ReadonlyMap<number, Catalogue> {
    return this.#shards;
  }

  [Symbol.dispose](): void {
    for (const catalogue of this.#shards.values()) catalogue[Symbol.dispose]();
    this.history[Symbol.dispose]();
  }
}
