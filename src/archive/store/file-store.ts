import { dirname, join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import { closeQuietly, diskError } from "../../store/disk/disk.ts";
import type { FolderDisk } from "./folder-disk.ts";
import { objectBuffer } from "./object-buffers.ts";
import {
  assertKey,
  checkSha256,
  conflict,
  damaged,
  type GetOptions,
  type ListedObject,
  type ListPage,
  LostPlace,
  type ObjectStore,
  orAborted,
  tooLarge,
} from "./object-store.ts";

/** How many names one page has at most. */
const PAGE_NAMES = 1000;

/** What begins so was being written when its writer ended. */
const LEFTOVER = ".writing-";

/** The errors of a file system that knows no second names. */
const NO_LINKS = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"]);

/** The errors that only a person can remove. */
const FORBIDDEN = new Set(["EACCES", "EPERM", "EROFS"]);

/** Whether a listed object is what a writer left that was ended amid a put: nobody reads it, and it may be deleted. */
export function isLeftover(name: string): boolean {
  return name.startsWith(LEFTOVER);
}

/** An archive in a folder: another disk, a mount. */
export class FileStore implements ObjectStore {
  readonly url: string;
  readonly #root: string;
  readonly #disk: FolderDisk;
  readonly #clock: Clock;
  /** The folders whose names this process has made durable. */
  readonly #durable = new Set<string>();
  /** Which folder the root is, once something was written there. */
  #identity: string | undefined;

  /** @param root the folder's path; it is created with the first object, in a folder that must be there. */
  constructor(root: string, disk: FolderDisk, clock: Clock) {
    this.url = `file://${root}`;
    this.#root = root;
    this.#disk = disk;
    this.#clock = clock;
  }

  async put(key: string, body: Uint8Array, signal: AbortSignal): Promise<void> {
    const path = this.#pathOf(key);
    signal.throwIfAborted();
    await orAborted(this.#put(path, body), signal);
  }

  async #put(path: string, body: Uint8Array): Promise<void> {
    await this.#refuseAnother();
    try {
      await this.#putOnce(path, body);
      this.#identity ??= (await this.#disk.lookAt(this.#root))?.identity;
    } catch (error) {
      if (codeOf(error) !== "ENOENT") throw failure("writing", path, error);
      // It was there: made anew, it would hold what nobody can restore.
      const folder = dirname(path);
      for (const one of this.#foldersOf(path)) this.#durable.delete(one);
      throw new LostPlace(`the archive: the folder ${folder} was removed while it was written to`);
    }
  }

  /** @throws LostPlace once the archive's folder isn't the one any more that was written to. */
  async #refuseAnother(): Promise<void> {
    if (this.#identity === undefined) return;
    const found = await this.#disk.lookAt(this.#root).catch((error: unknown) => {
      throw failure("looking at", this.#root, error);
    });
    if (found?.identity === this.#identity) return;
    this.#identity = undefined;
    this.#durable.clear();
    const what = found === undefined ? "is gone" : "is another folder than before";
    throw new LostPlace(
      `the archive: ${this.#root} ${what}: it was moved, removed, mounted or unmounted; what it lacks is sent anew`,
    );
  }

  async #putOnce(path: string, body: Uint8Array): Promise<void> {
    const folder = dirname(path);
    await this.#makeFolder(folder);
    const temporary = this.#temporaryIn(folder);
    const fd = await this.#disk.createPrivate(temporary);
    try {
      try {
        await this.#disk.write(fd, [body], 0);
        await this.#disk.syncData(fd);
      } finally {
        closeQuietly(this.#disk, fd);
      }
      await this.#nameOnce(temporary, path, body);
    } finally {
      await this.#removeQuietly(temporary);
    }
  }

  /** Gives a synced file its name, durably, and replaces nothing. */
  async #nameOnce(temporary: string, path: string, body: Uint8Array): Promise<void> {
    try {
      await this.#disk.hardLink(temporary, path);
    } catch (error) {
      const code = codeOf(error);
      if (code === "EEXIST") return this.#confirm(path, body);
      if (!NO_LINKS.has(code)) throw error;
      // A rename replaces. Here only another writer of the same moment could lose by it, who has another name.
      if ((await this.#disk.lookAt(path)) !== undefined) return this.#confirm(path, body);
      await this.#disk.moveTo(temporary, path);
    }
    try {
      await this.#disk.syncDir(dirname(path));
    } catch (error) {
      // A later sync would not tell that this name was lost: the next put must make it anew.
      await this.#removeQuietly(path);
      throw error;
    }
  }

  /** An object of that name is there: it counts if it has the same bytes, and once these and its name are durable. */
  async #confirm(path: string, body: Uint8Array): Promise<void> {
    const opened = await this.#disk.openRegular(path);
    if (opened === undefined) throw conflict(path);
    try {
      if (opened.bytes !== body.length) throw conflict(path);
      const there = await this.#read(path, opened.fd, 0, opened.bytes);
      if (Buffer.compare(there, body) !== 0) throw conflict(path);
      await this.#disk.syncData(opened.fd);
    } finally {
      closeQuietly(this.#disk, opened.fd);
    }
    await this.#disk.syncDir(dirname(path));
  }

  /** Makes a folder and its name durable, with those above it up to the one that holds the archive. */
  async #makeFolder(folder: string): Promise<void> {
    if (this.#durable.has(folder)) return;
    const above = dirname(this.#root);
    if ((await this.#disk.lookAt(above)) === undefined) {
      const message = `the archive: the folder ${above} is missing: create it, or mount what belongs there`;
      throw new ReplicaError("ARCHIVE_FAILED", { message });
    }
    await this.#disk.makePrivateDir(folder);
    for (const made of this.#foldersUpTo(folder)) {
      if (this.#durable.has(made)) continue;
      await this.#disk.syncDir(dirname(made)).catch((error: unknown) => {
        // This process made nothing in a folder that it may not even read.
        if (made !== this.#root || codeOf(error) !== "EACCES") throw error;
      });
      this.#durable.add(made);
    }
  }

  async get(
    key: string,
    options: GetOptions,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const path = this.#pathOf(key);
    signal.throwIfAborted();
    return await orAborted(this.#get(path, options), signal);
  }

  async #get(
    path: string,
    { range, maxBytes, sha256 }: GetOptions,
  ): Promise<Uint8Array | undefined> {
    let fd: number | undefined;
    try {
      const opened = await this.#disk.openRegular(path);
      if (opened === undefined) throw damaged(path, "is no file: put the object's file there");
      fd = opened.fd;
      const from = Math.min(range?.from ?? 0, opened.bytes);
      const to = Math.min(range?.to ?? opened.bytes, opened.bytes);
      const bytes = Math.max(0, to - from);
      if (bytes > maxBytes) throw tooLarge(path, bytes, maxBytes);
      const body = await this.#read(path, fd, from, bytes);
      await checkSha256(path, body, sha256);
      return body;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw failure("reading", path, error);
    } finally {
      if (fd !== undefined) closeQuietly(this.#disk, fd);
    }
  }

  async #read(path: string, fd: number, from: number, bytes: number): Promise<Uint8Array> {
    const body = objectBuffer(bytes);
    for (let done = 0; done < bytes;) {
      const read = await this.#disk.read(fd, body.subarray(done), from + done);
      if (read === 0)
        throw damaged(path, `ends at byte ${from + done}: it was cut while it was read`);
      done += read;
    }
    return body;
  }

  async *list(folder: string, signal: AbortSignal): AsyncGenerator<ListPage, void> {
    if (folder !== "") assertKey(folder);
    const path = join(this.#root, folder);
    signal.throwIfAborted();
    const listing = this.#disk.listDir(path).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw failure("listing", path, error);
    });
    const entries = await orAborted(listing, signal);
    const sorted = entries.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    for (let at = 0; at === 0 || at < sorted.length; at += PAGE_NAMES) {
      const page = sorted.slice(at, at + PAGE_NAMES);
      const objects: ListedObject[] = [];
      for (const { name, kind } of page) {
        if (kind !== "file") continue;
        signal.throwIfAborted();
        const looking = this.#disk.lookAt(join(path, name)).catch((error: unknown) => {
          throw failure("listing", path, error);
        });
        const found = await orAborted(looking, signal);
        if (found !== undefined) objects.push({ name, ...found });
      }
      const folders = page.filter(({ kind }) => kind === "folder").map(({ name }) => name);
      yield { objects, folders, dateMs: this.#clock.now() };
    }
  }

  async settle(folder: string, signal: AbortSignal): Promise<void> {
    if (folder !== "") assertKey(folder);
    const path = join(this.#root, folder);
    signal.throwIfAborted();
    // An object's bytes are durable before it gets its name.
    const syncing = this.#disk.syncDir(path).catch((error: unknown) => {
      if (!isMissing(error)) throw failure("syncing", path, error);
    });
    await orAborted(syncing, signal);
  }

  async delete(key: string, signal: AbortSignal): Promise<void> {
    const path = this.#pathOf(key);
    signal.throwIfAborted();
    await orAborted(this.#delete(path), signal);
  }

  async #delete(path: string): Promise<void> {
    try {
      await this.#disk.unlink(path).catch((error: unknown) => {
        if (!isMissing(error)) throw error;
      });
      // Objects go in an order that must hold after a power cut too.
      await this.#disk.syncDir(dirname(path)).catch((error: unknown) => {
        if (!isMissing(error)) throw error;
      });
    } catch (error) {
      throw failure("deleting", path, error);
    }
    await this.#removeEmptyFolders(path);
  }

  /** A store has no empty folders: they go with their last object. */
  async #removeEmptyFolders(path: string): Promise<void> {
    for (const folder of this.#foldersOf(path)) {
      if (folder === this.#root) return;
      try {
        await this.#disk.removeEmptyDir(folder);
        this.#durable.delete(folder);
      } catch {
        // It isn't empty, or nobody may remove it: it harms nothing.
        return;
      }
    }
  }

  async now(signal: AbortSignal): Promise<number | undefined> {
    signal.throwIfAborted();
    return await orAborted(this.#now(), signal);
  }

  async #now(): Promise<number | undefined> {
    const path = this.#temporaryIn(this.#root);
    try {
      const fd = await this.#disk.createPrivate(path);
      closeQuietly(this.#disk, fd);
      return (await this.#disk.lookAt(path))?.modifiedMs;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw failure("asking for the time by writing", path, error);
    } finally {
      await this.#removeQuietly(path);
    }
  }

  #temporaryIn(folder: string): string {
    const random = Math.floor(this.#clock.random() * 2 ** 48).toString(36);
    return join(folder, `${LEFTOVER}${process.pid}-${random}`);
  }

  async #removeQuietly(path: string): Promise<void> {
    await this.#disk.unlink(path).catch(() => undefined);
  }

  #pathOf(key: string): string {
    assertKey(key);
    return join(this.#root, key);
  }

  /** The folders of an object, nearest first, up to the root. */
  #foldersOf(path: string): string[] {
    return this.#foldersUpTo(dirname(path));
  }

  #foldersUpTo(folder: string): string[] {
    const folders = [folder];
    for (let at = folder; at !== this.#root && at !== dirname(at);) {
      at = dirname(at);
      folders.push(at);
    }
    return folders;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

function isMissing(error: unknown): boolean {
  return codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR";
}

/** An error of the archive's disk, which must not be taken for one of the data directory's. */
function failure(doing: string, path: string, cause: unknown): ReplicaError {
  if (cause instanceof ReplicaError) return cause;
  const isForbidden = FORBIDDEN.has(codeOf(cause));
  return new ReplicaError(isForbidden ? "ARCHIVE_FORBIDDEN" : "ARCHIVE_FAILED", {
    message: `the archive: ${diskError(doing, path, cause).message}`,
    cause,
  });
}
