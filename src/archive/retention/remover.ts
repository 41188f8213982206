import { encodeDocument, REMOVED_DOCUMENT } from "../format/documents.ts";
import { BASE_FILE, generationKey, REMOVED_FILE } from "../format/names.ts";
import { inOrder } from "../reader/in-order.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { type FolderView, type OwnObject, ownObjects } from "./folder-view.ts";

/** A folder may have ten thousands of objects, and nobody waits for them to go. */
const AT_ONCE = { things: 4, bytes: Infinity };

/** Counts what is removed. */
export interface RemovalCounts {
  generations: number;
  folders: number;
  objects: number;
  bytes: number;
}

/** Removes generations from an archive step by step, each of which may be the last. */
export class Remover {
  readonly #store: ObjectStore;
  readonly #counts: RemovalCounts;
  readonly removed: RemovedSoFar = { generations: [], folders: [], objects: 0, bytes: 0 };

  /** @param counts counted up. */
  constructor(store: ObjectStore, counts: RemovalCounts) {
    this.#store = store;
    this.#counts = counts;
  }

  /**
   * Makes a generation one that no reader finds: it is marked, and then its base.json goes. @throws ReplicaError of the
   * store; the signal's reason.
   */
  async retire(view: FolderView, signal: AbortSignal): Promise<void> {
    await this.mark(view, signal);
    await this.#delete({ key: generationKey(view.name, BASE_FILE), bytes: 0 }, signal);
    this.removed.generations.push(view.name);
    this.#counts.generations++;
  }

  /** Marks a folder as one that goes, from now on by the store's clock. @throws ReplicaError; see `retire`. */
  async mark({ name, documents }: FolderView, signal: AbortSignal): Promise<void> {
    // The mark of a removal that was cut, or given up, tells another time.
    if (documents.has(REMOVED_FILE)) await this.unmark(name, signal);
    const document = encodeDocument("removed", REMOVED_DOCUMENT);
    await this.#store.put(generationKey(name, REMOVED_FILE), document, signal);
  }

  /** It stays. @throws ReplicaError; see `retire`. */
  async unmark(name: string, signal: AbortSignal): Promise<void> {
    await this.#store.delete(generationKey(name, REMOVED_FILE), signal);
  }

  /** Removes all objects of ours from a folder, its mark last. @throws ReplicaError; see `retire`. */
  async clear(name: string, signal: AbortSignal): Promise<{ readonly objects: number }> {
    const { data, documents } = await ownObjects(this.#store, name, signal);
    const remove = async (object: OwnObject, stop: AbortSignal) => await this.#delete(object, stop);
    for await (const _ of inOrder(data, AT_ONCE, () => 0, remove, signal));
    for (const object of documents) await this.#delete(object, signal);
    this.removed.folders.push(name);
    this.#counts.folders++;
    return { objects: data.length + documents.length };
  }

  async #delete({ key, bytes }: OwnObject, signal: AbortSignal): Promise<void> {
    await this.#store.delete(key, signal);
    for (const counts of [this.removed, this.#counts]) {
      counts.objects++;
      counts.bytes += bytes;
    }
  }
}

/** What was removed so far. */
interface RemovedSoFar {
  readonly generations: string[];
  readonly folders: string[];
  objects: number;
  bytes: number;
}
