import type { GetOptions, ListPage, ObjectStore } from "./object-store.ts";

/** A folder of a store, as a store of its own. */
export class StorePart implements ObjectStore {
  readonly url: string;
  readonly #store: ObjectStore;
  readonly #folder: string;

  /** @param folder its key in the store. */
  constructor(store: ObjectStore, folder: string) {
    this.url = `${store.url.replace(/\/+$/, "")}/${folder}`;
    this.#store = store;
    this.#folder = folder;
  }

  put(key: string, body: Uint8Array, signal: AbortSignal, sha256?: Buffer): Promise<void> {
    return this.#store.put(this.#at(key), body, signal, sha256);
  }

  get(key: string, options: GetOptions, signal: AbortSignal): Promise<Uint8Array | undefined> {
    return this.#store.get(this.#at(key), options, signal);
  }

  list(folder: string, signal: AbortSignal): AsyncGenerator<ListPage, void> {
    return this.#store.list(folder === "" ? this.#folder : this.#at(folder), signal);
  }

  settle(folder: string, signal: AbortSignal): Promise<void> {
    return this.#store.settle(folder === "" ? this.#folder : this.#at(folder), signal);
  }

  delete(key: string, signal: AbortSignal): Promise<void> {
    return this.#store.delete(this.#at(key), signal);
  }

  now(signal: AbortSignal): Promise<number | undefined> {
    return this.#store.now(signal);
  }

  #at(key: string): string {
    return `${this.#folder}/${key}`;
  }
}
