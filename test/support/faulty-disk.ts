import type { DiskHints } from "../../src/store/disk/hints.ts";
import { type Disk, realDisk, type Sink } from "../../src/store/disk/disk.ts";
import {
  type FolderDisk,
  type FolderEntry,
  realFolderDisk,
  type LookedAt,
} from "../../src/archive/store/folder-disk.ts";

/** A call that can fail or be delayed: of the disk, or of a sink that it returned. */
export type DiskOperation =
  | Exclude<keyof (Disk & FolderDisk), "sink" | keyof DiskHints>
  | "sink.write"
  | "sink.flush"
  | "sink.end";

export interface DiskCall {
  readonly operation: DiskOperation;
  /** The path or the descriptor of the call. */
  readonly subject: string | number;
}

export interface DiskFault {
  /** Which matching call fails, counted from 1. Default: every one. */
  readonly call?: number;
  /** How many matching calls fail from that one on. Default: it alone. */
  readonly times?: number;
  /** Matches this operation only. */
  readonly operation?: DiskOperation;
  /** Matches calls on the file of this path only, or on a descriptor of it. */
  readonly path?: string;
  /** For example ENOSPC; `undefined`: the call succeeds, but late. */
  readonly code: string | undefined;
  /** A failing write has written its first half. */
  readonly half?: boolean;
  /** Milliseconds by which an asynchronous call is late. */
  readonly lateMs?: number;
}

/**
 * A real disk whose calls can fail or be held, and which records every call. A failing call does nothing,
 * unless the fault says `half`.
 */
export class FaultyDisk implements Disk, FolderDisk {
  readonly calls: DiskCall[] = [];
  readonly openFds = new Set<number>();
  readonly #pathOf = new Map<number, string>();
  readonly #disk: Disk;
  readonly #faults: { fault: DiskFault; seen: number }[] = [];
  readonly #holds = new Map<DiskOperation, PromiseWithResolvers<void>>();
  /** Descriptors of direct I/O, to which only whole blocks can be written. */
  readonly #directFds = new Set<number>();
  /** The calls that met a fault, in order. */
  readonly struck: (DiskCall & { readonly call: number })[] = [];

  readonly startWriteback = realDisk.startWriteback;
  readonly dropCached = realDisk.dropCached;
  readonly reserve = realDisk.reserve;

  constructor(...faults: DiskFault[]) {
    this.#disk = realDisk;
    for (const fault of faults) this.fail(fault);
  }

  /** Makes matching calls fail from now on. */
  fail(fault: DiskFault): void {
    this.#faults.push({ fault, seen: 0 });
  }

  /** The path of the file that a call was about. */
  pathOf({ subject }: DiskCall): string | undefined {
    return typeof subject === "number" ? this.#pathOf.get(subject) : subject;
  }

  /** Ends all faults. */
  heal(): void {
    this.#faults.length = 0;
  }

  /** Holds an asynchronous operation after its call, before it is done. */
  hold(operation: DiskOperation): { release(): void } {
    const held = Promise.withResolvers<void>();
    this.#holds.set(operation, held);
    return {
      release: () => {
        this.#holds.delete(operation);
        held.resolve();
      },
    };
  }

  /** How often an operation was called. */
  count(operation: DiskOperation): number {
    return this.calls.filter((call) => call.operation === operation).length;
  }

  /** The fault that applies to this call. */
  #meet(operation: DiskOperation, subject: string | number): DiskFault | undefined {
    this.calls.push({ operation, subject });
    let met: DiskFault | undefined;
    for (const entry of this.#faults) {
      const { fault } = entry;
      if (fault.operation !== undefined && fault.operation !== operation) continue;
      if (fault.path !== undefined && fault.path !== this.pathOf({ operation, subject })) continue;
      entry.seen++;
      const { call = 1, times = fault.call === undefined ? Infinity : 1 } = fault;
      if (entry.seen >= call && entry.seen < call + times) met ??= fault;
    }
    if (met !== undefined) this.struck.push({ operation, subject, call: this.calls.length });
    return met;
  }

  #called(operation: DiskOperation, subject: string | number): void {
    throwAs(this.#meet(operation, subject), operation);
  }

  /** @param half what the call does if the fault says `half`. */
  async #later<T>(
    operation: DiskOperation,
    subject: string | number,
    act: () => T | Promise<T>,
    half?: () => unknown,
  ): Promise<T> {
    const met = this.#meet(operation, subject);
    if (met?.lateMs !== undefined) await Bun.sleep(met.lateMs);
    if (met?.half === true) await half?.();
    throwAs(met, operation);
    await this.#holds.get(operation)?.promise;
    return act();
  }

  #open(
    operation: "create" | "createDirect" | "openExisting" | "openToRead",
    path: string,
  ): number {
    this.#called(operation, path);
    const fd = this.#disk[operation](path);
    this.openFds.add(fd);
    this.#pathOf.set(fd, path);
    if (operation === "createDirect") this.#directFds.add(fd);
    else this.#directFds.delete(fd);
    return fd;
  }

  create(path: string): number {
    return this.#open("create", path);
  }

  createDirect(path: string): number {
    return this.#open("createDirect", path);
  }

  openExisting(path: string): number {
    return this.#open("openExisting", path);
  }

  openToRead(path: string): number {
    return this.#open("openToRead", path);
  }

  /** As on Linux, the descriptor is closed even if close(2) returns an error. */
  close(fd: number): void {
    const isOpen = this.openFds.delete(fd);
    if (isOpen) this.#disk.close(fd);
    this.#called("close", fd);
    if (!isOpen) throw new Error(`descriptor ${fd} is closed twice`);
  }

  /** A sink whose `write` returns a promise, as Bun's does while the disk is behind. */
  sink(fd: number): Sink {
    const sink = this.#disk.sink(fd);
    return {
      write: (bytes) => {
        const half = bytes.subarray(0, bytes.length >> 1);
        return this.#later(
          "sink.write",
          fd,
          () => sink.write(bytes),
          () => sink.write(half),
        );
      },
      flush: () => this.#later("sink.flush", fd, () => sink.flush()),
      end: () => this.#later("sink.end", fd, () => sink.end()),
    };
  }

  write(fd: number, buffers: Uint8Array[], position: number): Promise<void> {
    const half = () => {
      const bytes = Buffer.concat(buffers);
      const halfBytes = bytes.length >> 1;
      return this.#directFds.has(fd)
        ? undefined
        : this.#disk.write(fd, [bytes.subarray(0, halfBytes)], position);
    };
    return this.#later("write", fd, () => this.#disk.write(fd, buffers, position), half);
  }

  /** Takes nothing while a write is to fail or to be held: the same bytes then come by `write`. */
  writeAtOnce(fd: number, bytes: Uint8Array, position: number): number {
    const mayStrike = ({ fault, seen }: { fault: DiskFault; seen: number }) => {
      const { operation, call = 1, times = fault.call === undefined ? Infinity : 1 } = fault;
      return (operation === undefined || operation === "write") && seen < call + times - 1;
    };
    if (this.#holds.has("write") || this.#faults.some(mayStrike)) return 0;
    this.#called("write", fd);
    return this.#disk.writeAtOnce(fd, bytes, position);
  }

  read(fd: number, buffer: Uint8Array, position: number): Promise<number> {
    return this.#later("read", fd, () => this.#disk.read(fd, buffer, position));
  }

  syncData(fd: number): Promise<void> {
    return this.#later("syncData", fd, () => {
      if (!this.openFds.has(fd)) throw new Error(`descriptor ${fd} is synced after its close`);
      return this.#disk.syncData(fd);
    });
  }

  syncDir(path: string): Promise<void> {
    return this.#later("syncDir", path, () => this.#disk.syncDir(path));
  }

  sizeOf(path: string): number {
    this.#called("sizeOf", path);
    return this.#disk.sizeOf(path);
  }

  truncate(path: string, bytes: number): void {
    this.#called("truncate", path);
    this.#disk.truncate(path, bytes);
  }

  copy(from: string, to: string): Promise<void> {
    return this.#later("copy", to, () => this.#disk.copy(from, to));
  }

  rename(from: string, to: string): void {
    this.#called("rename", to);
    this.#disk.rename(from, to);
  }

  remove(path: string): void {
    this.#called("remove", path);
    this.#disk.remove(path);
  }

  removeLarge(path: string): Promise<void> {
    return this.#later("removeLarge", path, () => this.#disk.removeLarge(path));
  }

  makeDir(path: string): void {
    this.#called("makeDir", path);
    this.#disk.makeDir(path);
  }

  linkTo(target: string, path: string): void {
    this.#called("linkTo", path);
    this.#disk.linkTo(target, path);
  }

  freeBytes(path: string): number {
    this.#called("freeBytes", path);
    return this.#disk.freeBytes(path);
  }

  async createPrivate(path: string): Promise<number> {
    const create = () => realFolderDisk.createPrivate(path);
    return this.#opened(path, await this.#later("createPrivate", path, create));
  }

  async openRegular(path: string): Promise<{ fd: number; bytes: number } | undefined> {
    const open = () => realFolderDisk.openRegular(path);
    const found = await this.#later("openRegular", path, open);
    if (found !== undefined) this.#opened(path, found.fd);
    return found;
  }

  #opened(path: string, fd: number): number {
    this.openFds.add(fd);
    this.#pathOf.set(fd, path);
    return fd;
  }

  hardLink(from: string, to: string): Promise<void> {
    return this.#later("hardLink", to, () => realFolderDisk.hardLink(from, to));
  }

  moveTo(from: string, to: string): Promise<void> {
    return this.#later("moveTo", to, () => realFolderDisk.moveTo(from, to));
  }

  unlink(path: string): Promise<void> {
    return this.#later("unlink", path, () => realFolderDisk.unlink(path));
  }

  makePrivateDir(path: string): Promise<void> {
    return this.#later("makePrivateDir", path, () => realFolderDisk.makePrivateDir(path));
  }

  removeEmptyDir(path: string): Promise<void> {
    return this.#later("removeEmptyDir", path, () => realFolderDisk.removeEmptyDir(path));
  }

  listDir(path: string): Promise<FolderEntry[]> {
    return this.#later("listDir", path, () => realFolderDisk.listDir(path));
  }

  lookAt(path: string): Promise<LookedAt | undefined> {
    return this.#later("lookAt", path, () => realFolderDisk.lookAt(path));
  }
}

function throwAs(fault: DiskFault | undefined, operation: DiskOperation): void {
  const code = fault?.code;
  if (code === undefined) return;
  throw Object.assign(new Error(`${code}: made by the test, ${operation}`), { code });
}
