import type { GetOptions, ListPage, ObjectStore } from "../../../src/archive/store/object-store.ts";

/** Of which put the process dies: before the object is sent, or once it is stored and nobody has been told. */
export interface Death {
  /** Counted from 1. */
  readonly put: number;
  readonly isStored: boolean;
}

/** A store amid whose puts the process that writes to it dies. */
export class DyingStore implements ObjectStore {
  readonly url: string;
  /** The keys that were stored, in their order; those of all processes if they share it. */
  readonly #stored: string[];
  readonly #inner: ObjectStore;
  readonly #death: Death | undefined;
  readonly #died = Promise.withResolvers<void>();
  #puts = 0;
  #isDead = false;

  constructor(inner: ObjectStore, stored: string[], death: Death | undefined) {
    this.url = inner.url;
    this.#inner = inner;
    this.#stored = stored;
    this.#death = death;
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  /** Resolves once the process is dead. */
  get died(): Promise<void> {
    return this.#died.promise;
  }

  async put(key: string, body: Uint8Array, signal: AbortSignal): Promise<void> {
    this.#puts++;
    const isLast = this.#puts === this.#death?.put;
    if (!isLast || this.#death.isStored) {
      await this.#inner.put(key, body, signal);
      this.#stored.push(key);
    }
    if (!isLast) return;
    this.#isDead = true;
    this.#died.resolve();
    await new Promise(() => undefined);
  }

  get(key: string, options: GetOptions, signal: AbortSignal): Promise<Uint8Array | undefined> {
    return this.#inner.get(key, options, signal);
  }

  list(folder: string, signal: AbortSignal): AsyncGenerator<ListPage, void> {
    return this.#inner.list(folder, signal);
  }

  settle(folder: string, signal: AbortSignal): Promise<void> {
    return this.#inner.settle(folder, signal);
  }

  delete(key: string, signal: AbortSignal): Promise<void> {
    return this.#inner.delete(key, signal);
  }

  now(signal: AbortSignal): Promise<number | undefined> {
    return this.#inner.now(signal);
  }
}
