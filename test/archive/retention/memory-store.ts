import { ReplicaError } from "../../../src/base/errors.ts";
import {
  conflict,
  type GetOptions,
  type ListPage,
  type ObjectStore,
} from "../../../src/archive/store/object-store.ts";

/** A store in memory, whose time is what the test says, and which is cut when the test says so. */
export class MemoryStore implements ObjectStore {
  readonly url = "memory://archive";
  readonly objects = new Map<string, { readonly bytes: Buffer; readonly atMs: number }>();
  /** Its clock. */
  nowMs = 0;
  /** How many objects can still be written or deleted. */
  changesLeft = Infinity;

  async put(key: string, body: Uint8Array): Promise<void> {
    this.#change();
    const there = this.objects.get(key);
    if (there !== undefined && Buffer.compare(there.bytes, body) !== 0) throw conflict(key);
    if (there === undefined) this.objects.set(key, { bytes: Buffer.from(body), atMs: this.nowMs });
  }

  async get(key: string, { range }: GetOptions): Promise<Uint8Array | undefined> {
    const { bytes } = this.objects.get(key) ?? {};
    // Who asks gives the buffer back.
    return bytes && Uint8Array.from(bytes.subarray(range?.from ?? 0, range?.to));
  }

  async *list(folder: string): AsyncGenerator<ListPage, void> {
    const prefix = folder === "" ? "" : `${folder}/`;
    const objects: ListPage["objects"][number][] = [];
    const folders = new Set<string>();
    for (const [key, { bytes, atMs }] of this.objects) {
      if (!key.startsWith(prefix)) continue;
      const [name = "", ...more] = key.slice(prefix.length).split("/");
      if (more.length > 0) folders.add(name);
      else objects.push({ name, bytes: bytes.length, modifiedMs: atMs });
    }
    yield { objects, folders: [...folders], dateMs: this.nowMs };
  }

  async settle(): Promise<void> {}

  async delete(key: string): Promise<void> {
    this.#change();
    this.objects.delete(key);
  }

  async now(): Promise<number> {
    return this.nowMs;
  }

  #change(): void {
    if (this.changesLeft-- <= 0) throw new ReplicaError("ARCHIVE_FAILED", { message: "cut" });
  }
}
