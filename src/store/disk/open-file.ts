import { invariant } from "../../base/errors.ts";
import type { Disk, Sink } from "./disk.ts";
import { stillThere } from "./still-there.ts";
import { Turns } from "./turns.ts";

/**
 * Owns one descriptor that is written to. It is closed only once no call of another thread uses it: the
 * kernel gives its number to the next file that is opened, and such a call would then write to that one.
 * It is synced by one call at a time, because the kernel reports a failed write to one of two concurrent
 * syncs only; after a failed sync every later one fails too, because pages may be lost.
 */
export class OpenFile {
  readonly path: string;
  /** For calls that return before anything else happens, such as fstat(2). */
  readonly fd: number;
  readonly #disk: Disk;
  readonly #fsyncs = new Turns();
  #fsyncFailure: { readonly cause: unknown } | undefined;
  /** Calls of other threads that use the descriptor. */
  #users = 0;
  #state: "open" | "closing" | "closed" = "open";
  /** Closes it; set while it waits for the last user. */
  #onIdle: (() => void) | undefined;

  private constructor(disk: Disk, path: string, fd: number) {
    this.#disk = disk;
    this.path = path;
    this.fd = fd;
  }

  /** Creates a file; it must not exist. @throws Error of the disk. */
  static create(disk: Disk, path: string): OpenFile {
    return new OpenFile(disk, path, disk.create(path));
  }

  /** Creates a file to be written past the page cache. @throws Error of the disk. */
  static createDirect(disk: Disk, path: string): OpenFile {
    return new OpenFile(disk, path, disk.createDirect(path));
  }

  /** @throws Error of the disk. */
  static openExisting(disk: Disk, path: string): OpenFile {
    return new OpenFile(disk, path, disk.openExisting(path));
  }

  /** False once it is closed, or about to be. */
  get isOpen(): boolean {
    return this.#state === "open";
  }

  /** Keeps the descriptor open until `release`, around calls of other threads. */
  hold(): void {
    this.#users++;
  }

  release(): void {
    invariant(this.#users > 0, `${this.path} is released as often as it is held`);
    this.#users--;
    if (this.#users === 0) this.#onIdle?.();
  }

  /** Runs `act` with the descriptor held. @throws what `act` throws. */
  async use<T>(act: () => T | Promise<T>): Promise<T> {
    this.hold();
    try {
      return await act();
    } finally {
      this.release();
    }
  }

  /** Writes all of `buffers` at `position`, in bytes; the caller holds the descriptor. @throws Error of the disk. */
  write(buffers: Uint8Array[], position: number): Promise<void> {
    return this.#disk.write(this.fd, buffers, position);
  }

  /** See `Disk.writeAtOnce`. @throws Error of the disk; Error where it is closed. */
  writeAtOnce(bytes: Uint8Array, position: number): number {
    if (this.#state === "closed") throw new Error("it is closed");
    return this.#disk.writeAtOnce(this.fd, bytes, position);
  }

  /** See `DiskHints`; the caller holds the descriptor. */
  startWriteback(position: number, bytes: number): void {
    this.#disk.startWriteback(this.fd, position, bytes);
  }

  /** See `DiskHints`; the caller holds the descriptor. */
  dropCached(position: number, bytes: number): void {
    this.#disk.dropCached(this.fd, position, bytes);
  }

  /** Free bytes, for this user, on its file system. @throws Error of the disk. */
  get freeBytes(): number {
    return this.#disk.freeBytes(this.path);
  }

  /** See `DiskHints`; the caller holds the descriptor. */
  reserve(position: number, bytes: number): boolean {
    return this.#disk.reserve(this.fd, position, bytes);
  }

  /** A writer through the page cache; the caller holds the descriptor during its calls. */
  sink(): Sink {
    return this.#disk.sink(this.fd);
  }

  /** Makes durable what is written. @throws Error of the disk; Error where it is closed. */
  async sync(): Promise<void> {
    if (this.#state === "closed") throw new Error("it is closed");
    await this.use(() => this.#fsyncs.run(() => this.#fsyncOnce()));
  }

  async #fsyncOnce(): Promise<void> {
    if (this.#fsyncFailure !== undefined) throw this.#fsyncFailure.cause;
    try {
      await this.#disk.syncData(this.fd);
    } catch (cause) {
      this.#fsyncFailure = { cause };
      throw cause;
    }
  }

  /** @throws Error of the disk. */
  truncate(bytes: number): void {
    this.#disk.truncate(this.path, bytes);
  }

  /** Returns a check whether the path still leads to this file. See `stillThere`. */
  watch(): () => boolean {
    return stillThere(this.fd, this.path);
  }

  /** Closes a file that is whole, once nothing uses it. @throws Error of the disk: the file may not be whole. */
  close(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#closeWhenIdle(resolve, reject);
    return promise;
  }

  /** Closes a file that is given up, or was synced before, once nothing uses it; ignores what close(2) says. */
  closeQuietly(): void {
    const ignore = () => undefined;
    this.#closeWhenIdle(ignore, ignore);
  }

  #closeWhenIdle(closed: () => void, failed: (cause: unknown) => void): void {
    if (this.#state !== "open") return closed();
    this.#state = "closing";
    this.#onIdle = () => {
      this.#state = "closed";
      this.#onIdle = undefined;
      try {
        this.#disk.close(this.fd);
        closed();
      } catch (cause) {
        failed(cause);
      }
    };
    if (this.#users === 0) this.#onIdle();
  }
}
