import * as fs from "node:fs";
import { join, relative } from "node:path";
import { Random } from "../../src/demo/random.ts";
import { type Disk, realDisk, type Sink } from "../../src/store/disk/disk.ts";
import {
  type FolderDisk,
  type FolderEntry,
  realFolderDisk,
  type LookedAt,
} from "../../src/archive/store/folder-disk.ts";
import {
  apply,
  EMPTY,
  type FileNode,
  folder,
  type FolderNode,
  type NameChange,
  type Node,
  overwritten,
  PowerCut,
} from "./power-cut.ts";

const DATABASE = "replica.db";
const WAL = `${DATABASE}-wal`;

function read(path: string): Buffer | undefined {
  return fs.existsSync(path) ? fs.readFileSync(path) : undefined;
}

/** A file of SQLite's: SQLite writes it itself, but syncs it through this disk. */
class DatabaseFile {
  readonly node: FileNode;
  readonly #path: string;
  /** Bytes that a failed sync has left clean in the page cache: they are never written, unless they are written again. */
  #lost: Buffer = EMPTY;

  constructor(path: string) {
    this.#path = path;
    const content = read(path) ?? EMPTY;
    this.node = { kind: "file", content, durable: content };
  }

  /** Whether the last sync of it failed. */
  get isLost(): boolean {
    return this.#lost.length > 0;
  }

  /** Reads what the file holds now. */
  look(): void {
    const content = read(this.#path) ?? EMPTY;
    // Keep one copy in memory while nothing is committed.
    if (content.equals(this.node.content)) return;
    if (content.length < this.node.content.length) {
      this.node.uncut ??= this.node.durable;
      this.node.durable = EMPTY;
      this.#lost = EMPTY;
    }
    this.node.content = content;
  }

  cover(): () => void {
    this.look();
    const { content, durable } = this.node;
    const covered = Buffer.from(content);
    for (let at = durable.length; at < Math.min(covered.length, this.#lost.length); at++) {
      if (covered[at] === this.#lost[at]) covered[at] = 0;
    }
    return () => {
      this.node.durable = covered;
      this.node.uncut = undefined;
      this.#lost = EMPTY;
    };
  }

  lose(): void {
    this.look();
    this.#lost = Buffer.from(this.node.content);
  }

  /** SQLite has synced it itself. */
  synced(): void {
    this.look();
    this.cover()();
  }

  /** The replica itself has written these bytes of it again. */
  rewritten(from: number, to: number): void {
    for (let at = from; at < Math.min(to, this.#lost.length); at++) this.#lost[at]! ^= 0xff;
  }
}

/**
 * A disk with a page cache. The folder at `root` is what the kernel shows. The model keeps what a power
 * cut would leave, which is no more than POSIX promises: the bytes of a file that fdatasync(2) covered,
 * the names in a folder that fsync(2) of that folder covered. Calls take no real time, yet overlap, in an
 * order that the seed decides.
 */
export class PowerCutDisk implements Disk, FolderDisk {
  readonly #root: string;
  readonly #tree: FolderNode;
  readonly #databaseDir: string;
  readonly #random: Random;
  readonly #files = new Map<number, FileNode>();
  readonly #wal: DatabaseFile;
  readonly #main: DatabaseFile;
  /** Hints make nothing durable that anybody may rely on. */
  readonly startWriteback = realDisk.startWriteback;
  readonly dropCached = realDisk.dropCached;
  readonly reserve = () => false;
  /** Number of syncs begun, of files and folders. */
  syncs = 0;
  /** Which sync fails, counted from 1; it loses what it should have made durable. */
  failingSync: number | undefined;
  #calls = 0;
  #watch: (label: string) => void = () => undefined;

  /**
   * @param root an existing folder, whose content counts as durable.
   * @param databaseDir the folder in it where SQLite keeps its files, bypassing this disk.
   */
  constructor(root: string, databaseDir: string, seed: number) {
    this.#root = root;
    this.#databaseDir = databaseDir;
    this.#random = new Random(seed);
    this.#tree = this.#adopt(root);
    this.#wal = new DatabaseFile(join(databaseDir, WAL));
    this.#main = new DatabaseFile(join(databaseDir, DATABASE));
  }

  #adopt(path: string): FolderNode {
    const node = folder();
    for (const entry of fs.readdirSync(path, { withFileTypes: true })) {
      if (/^replica\.(db|lock)/.test(entry.name)) continue;
      const child = join(path, entry.name);
      node.entries.set(entry.name, this.#adoptOne(child, entry));
    }
    node.durable = new Map(node.entries);
    return node;
  }

  #adoptOne(path: string, entry: fs.Dirent): Node {
    if (entry.isDirectory()) return this.#adopt(path);
    if (entry.isSymbolicLink()) return { kind: "link", target: fs.readlinkSync(path) };
    const content = fs.readFileSync(path);
    return { kind: "file", content, durable: content };
  }

  /** Calls `watch` before and after each call of the disk, and in the middle of each write. */
  onMoment(watch: (label: string) => void): void {
    this.#watch = watch;
  }

  /** A power cut at this moment. */
  cut(label: string): PowerCut {
    const below = relative(this.#root, this.#databaseDir);
    const database = new Map<string, FileNode>();
    if (fs.existsSync(join(this.#databaseDir, DATABASE))) {
      if (!fs.existsSync(join(this.#databaseDir, WAL))) {
        // SQLite has closed the database: before it removes its log, it syncs both.
        this.#main.synced();
        this.#wal.synced();
      }
      for (const [name, file] of [
        [DATABASE, this.#main],
        [WAL, this.#wal],
      ] as const) {
        file.look();
        database.set(join(below, name), { ...file.node });
      }
    }
    return new PowerCut(label, this.#tree, database);
  }

  /** Whether the last sync of SQLite's write-ahead log failed: nothing counts that was committed since the one before. */
  get isDatabaseLost(): boolean {
    return this.#wal.isLost;
  }

  #begin(operation: string): string {
    const label = `call ${++this.#calls}, ${operation}`;
    this.#watch(`before ${label}`);
    return label;
  }

  #now<T>(operation: string, act: () => T): T {
    const label = this.#begin(operation);
    const result = act();
    this.#watch(`after ${label}`);
    return result;
  }

  /** Yields a random number of times. */
  async turns(most: number): Promise<void> {
    for (let left = this.#random.below(most + 1); left > 0; left--) await undefined;
  }

  /** The folder that holds `path`, and its name in it. */
  #parent(path: string): { folder: FolderNode; name: string } {
    const names = relative(this.#root, path).split("/");
    const name = names.pop()!;
    let at = this.#tree;
    for (const step of names) {
      const next = at.entries.get(step);
      if (next?.kind !== "folder") throw new Error(`${path}: the model knows no folder ${step}`);
      at = next;
    }
    return { folder: at, name };
  }

  #node(path: string): Node | undefined {
    if (path === this.#root) return this.#tree;
    const { folder: parent, name } = this.#parent(path);
    return parent.entries.get(name);
  }

  #file(path: string): FileNode {
    const node = this.#node(path);
    if (node?.kind !== "file") throw new Error(`${path}: the model knows no such file`);
    return node;
  }

  #opened(fd: number): FileNode {
    const node = this.#files.get(fd);
    if (node === undefined) throw new Error(`descriptor ${fd} is not open`);
    return node;
  }

  #change(parent: FolderNode, change: NameChange): void {
    apply(parent.entries, change);
    parent.changes.push(change);
  }

  create(path: string): number {
    return this.#now("create", () => {
      const fd = realDisk.create(path);
      const { folder: parent, name } = this.#parent(path);
      const node: FileNode = { kind: "file", content: EMPTY, durable: EMPTY };
      this.#change(parent, { drop: undefined, set: { name, node } });
      this.#files.set(fd, node);
      return fd;
    });
  }

  /** Direct I/O is no more durable: the device has a cache too. */
  createDirect(path: string): number {
    return this.create(path);
  }

  openExisting(path: string): number {
    return this.#now("openExisting", () => {
      const fd = realDisk.openExisting(path);
      this.#files.set(fd, this.#databaseFile(path)?.node ?? this.#file(path));
      return fd;
    });
  }

  #databaseFile(path: string): DatabaseFile | undefined {
    return path.endsWith(WAL) ? this.#wal : path.endsWith(DATABASE) ? this.#main : undefined;
  }

  openToRead(path: string): number {
    return this.#now("openToRead", () => {
      const fd = realDisk.openToRead(path);
      this.#files.set(fd, this.#databaseFile(path)?.node ?? this.#file(path));
      return fd;
    });
  }

  read(fd: number, buffer: Uint8Array, position: number): Promise<number> {
    return realDisk.read(fd, buffer, position);
  }

  close(fd: number): void {
    this.#now("close", () => {
      if (!this.#files.delete(fd)) throw new Error(`descriptor ${fd} is closed twice`);
      realDisk.close(fd);
    });
  }

  /** Buffers until it is flushed; a power cut, or a close, loses the buffer. */
  sink(fd: number): Sink {
    let gathered = EMPTY;
    let position = 0;
    const flush = async () => {
      const bytes = gathered;
      gathered = EMPTY;
      const from = position;
      position += bytes.length;
      if (bytes.length > 0) await this.#write("sink.flush", fd, bytes, from);
      return bytes.length;
    };
    return {
      write: async (bytes) => {
        await this.turns(4);
        gathered = Buffer.concat([gathered, bytes]);
        return bytes.length;
      },
      flush,
      end: flush,
    };
  }

  async write(fd: number, buffers: Uint8Array[], position: number): Promise<void> {
    await this.#write("write", fd, Buffer.concat(buffers), position);
  }

  /** Takes everything, or nothing. */
  writeAtOnce(fd: number, bytes: Uint8Array, position: number): number {
    if (this.#random.below(2) === 0) return 0;
    const label = this.#begin("write at once");
    this.#put(fd, Buffer.from(bytes), position);
    this.#watch(`in ${label}`);
    return bytes.length;
  }

  #put(fd: number, piece: Buffer, position: number): void {
    const node = this.#opened(fd);
    fs.writeSync(fd, piece, 0, piece.length, position);
    if (node === this.#wal.node) this.#wal.rewritten(position, position + piece.length);
    else node.content = overwritten(node.content, piece, position);
  }

  async #write(operation: string, fd: number, bytes: Buffer, position: number): Promise<void> {
    const label = this.#begin(operation);
    const middle = this.#random.below(bytes.length + 1);
    for (const [from, to] of [
      [0, middle],
      [middle, bytes.length],
    ] as const) {
      await this.turns(6);
      this.#put(fd, bytes.subarray(from, to), position + from);
      this.#watch(`in ${label}, ${to} of ${bytes.length} bytes`);
    }
  }

  async #sync(what: string, act: () => () => void, lose: () => void): Promise<void> {
    const failing = ++this.syncs === this.failingSync;
    const label = this.#begin(`${what}, sync ${this.syncs}`);
    const made = act();
    await this.turns(40);
    if (failing) {
      lose();
      this.#watch(`after ${label}, which failed`);
      throw Object.assign(new Error("EIO: made by the test, sync"), { code: "EIO" });
    }
    made();
    this.#watch(`after ${label}`);
  }

  /** Covers what was written when it began. If it fails, those pages are lost and read as zeros. */
  async syncData(fd: number): Promise<void> {
    const node = this.#opened(fd);
    for (const [what, file] of [
      ["syncData of the WAL", this.#wal],
      ["syncData of the database", this.#main],
    ] as const) {
      if (node !== file.node) continue;
      const lose = () => (file === this.#wal ? file.lose() : undefined);
      return this.#sync(what, () => file.cover(), lose);
    }
    const cover = () => {
      const covered = node.content;
      return () => {
        this.#opened(fd);
        node.durable = covered;
      };
    };
    await this.#sync("syncData", cover, () => {
      const size = node.content.length;
      node.content = Buffer.alloc(size);
      node.durable.copy(node.content);
      fs.writeSync(fd, node.content, 0, size, 0);
    });
  }

  async syncDir(path: string): Promise<void> {
    // Nothing above the root is ever lost.
    if (relative(this.#root, path).startsWith("..")) return;
    // What isn't there has the real error.
    fs.lstatSync(path);
    const node = this.#node(path);
    if (node?.kind !== "folder") throw new Error(`${path} is no folder that the model knows`);
    const cover = () => {
      const covered = new Map(node.entries);
      const { length } = node.changes;
      return () => {
        node.durable = covered;
        node.changes.splice(0, length);
      };
    };
    await this.#sync("syncDir", cover, () => undefined);
  }

  sizeOf(path: string): number {
    return realDisk.sizeOf(path);
  }

  freeBytes(path: string): number {
    return realDisk.freeBytes(path);
  }

  truncate(path: string, bytes: number): void {
    this.#now("truncate", () => {
      realDisk.truncate(path, bytes);
      const node = this.#file(path);
      const cut = Buffer.alloc(bytes);
      node.content.copy(cut);
      node.content = cut;
    });
  }

  /** No more durable than what is written. */
  async copy(from: string, to: string): Promise<void> {
    const fd = this.create(to);
    await this.write(fd, [fs.readFileSync(from)], 0);
    this.close(fd);
  }

  rename(from: string, to: string): void {
    this.#now("rename", () => {
      realDisk.rename(from, to);
      const { folder: parent, name } = this.#parent(to);
      const before = this.#parent(from);
      if (before.folder !== parent)
        throw new Error("a rename from folder to folder is not modelled");
      const node = parent.entries.get(before.name)!;
      this.#change(parent, { drop: before.name, set: { name, node } });
    });
  }

  remove(path: string): void {
    this.#now("remove", () => {
      realDisk.remove(path);
      this.#forget(path);
    });
  }

  async removeLarge(path: string): Promise<void> {
    await this.turns(6);
    this.remove(path);
  }

  #forget(path: string): void {
    const { folder: parent, name } = this.#parent(path);
    const node = parent.entries.get(name);
    if (node === undefined) return;
    if (node.kind === "folder")
      for (const child of node.entries.keys()) this.#forget(join(path, child));
    this.#change(parent, { drop: name, set: undefined });
  }

  makeDir(path: string): void {
    this.#now("makeDir", () => {
      realDisk.makeDir(path);
      let parent = this.#tree;
      for (const name of relative(this.#root, path).split("/")) {
        let next = parent.entries.get(name);
        if (next === undefined) {
          next = folder();
          this.#change(parent, { drop: undefined, set: { name, node: next } });
        }
        if (next.kind !== "folder") throw new Error(`${path}: ${name} is no folder`);
        parent = next;
      }
    });
  }

  linkTo(target: string, path: string): void {
    this.#now("linkTo", () => {
      realDisk.linkTo(target, path);
      const { folder: parent, name } = this.#parent(path);
      this.#change(parent, { drop: undefined, set: { name, node: { kind: "link", target } } });
    });
  }

  async createPrivate(path: string): Promise<number> {
    await this.turns(4);
    return this.create(path);
  }

  async openRegular(path: string): Promise<{ fd: number; bytes: number } | undefined> {
    await this.turns(4);
    const found = await realFolderDisk.openRegular(path);
    if (found !== undefined) this.#files.set(found.fd, this.#file(path));
    return found;
  }

  async hardLink(from: string, to: string): Promise<void> {
    await this.turns(4);
    this.#now("hardLink", () => {
      fs.linkSync(from, to);
      const { folder: parent, name } = this.#parent(to);
      this.#change(parent, { drop: undefined, set: { name, node: this.#file(from) } });
    });
  }

  async moveTo(from: string, to: string): Promise<void> {
    await this.turns(4);
    this.rename(from, to);
  }

  async unlink(path: string): Promise<void> {
    await this.turns(4);
    fs.lstatSync(path);
    this.remove(path);
  }

  async makePrivateDir(path: string): Promise<void> {
    await this.turns(4);
    this.makeDir(path);
  }

  async removeEmptyDir(path: string): Promise<void> {
    await this.turns(4);
    this.#now("removeEmptyDir", () => {
      fs.rmdirSync(path);
      this.#forget(path);
    });
  }

  listDir(path: string): Promise<FolderEntry[]> {
    return realFolderDisk.listDir(path);
  }

  lookAt(path: string): Promise<LookedAt | undefined> {
    return realFolderDisk.lookAt(path);
  }
}
