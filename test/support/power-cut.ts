import * as fs from "node:fs";
import { dirname, join } from "node:path";
import type { Random } from "../../src/demo/random.ts";

/** A file as the kernel has it and as the device has it. The buffers are never changed in place. */
export interface FileNode {
  readonly kind: "file";
  content: Buffer;
  durable: Buffer;
  /** What the device has of it instead, as long as it does not know that the file was cut to nothing. */
  uncut?: Buffer | undefined;
}

interface LinkNode {
  readonly kind: "link";
  readonly target: string;
}

/** A change of names. A rename is one change, as in a journal. */
export interface NameChange {
  readonly drop: string | undefined;
  readonly set: { readonly name: string; readonly node: Node } | undefined;
}

export interface FolderNode {
  readonly kind: "folder";
  entries: Map<string, Node>;
  durable: Map<string, Node>;
  /** The changes since `durable`, in their order. */
  changes: NameChange[];
}

export type Node = FileNode | LinkNode | FolderNode;

/** Which unsynced bytes and names survive a power cut. */
export interface Survivors {
  /** `torn`: any of the bytes, in a file of any length between the two, with zeros in the holes. */
  readonly bytes: "none" | "torn" | "all";
  /** `some`: any of the changes, independently. */
  readonly names: "none" | "some" | "all";
}

export const EMPTY = Buffer.alloc(0);

export function folder(): FolderNode {
  return { kind: "folder", entries: new Map(), durable: new Map(), changes: [] };
}

export function apply(entries: Map<string, Node>, { drop, set }: NameChange): void {
  if (drop !== undefined) entries.delete(drop);
  if (set !== undefined) entries.set(set.name, set.node);
}

export function overwritten(content: Buffer, bytes: Buffer, position: number): Buffer {
  const grown = Buffer.alloc(Math.max(content.length, position + bytes.length));
  content.copy(grown);
  bytes.copy(grown, position);
  return grown;
}

/** The moment of a power cut: what the device certainly has, and what it may have. */
export class PowerCut {
  /** The number of the last disk call, and its name. */
  readonly label: string;
  readonly #root: FolderNode;
  /** SQLite's files, by path below the root. */
  readonly #database: ReadonlyMap<string, FileNode>;

  constructor(label: string, root: FolderNode, database: ReadonlyMap<string, FileNode>) {
    this.label = label;
    this.#root = frozen(root, new Map());
    this.#database = database;
  }

  /** Writes what is found after the cut to `path`, which must not exist yet. */
  restore(path: string, survivors: Survivors, random: Random): void {
    lay(this.#root, path, survivors, random);
    for (const [name, node] of this.#database) {
      const file = join(path, name);
      // If the data directory's own name is lost, everything in it is lost too.
      if (fs.existsSync(dirname(file))) {
        fs.writeFileSync(file, bytesLeft(node, survivors, random));
      }
    }
  }
}

/** A copy that later calls don't change; a node with two names stays one node. */
function frozen<T extends Node>(node: T, copies: Map<Node, Node>): T;
function frozen(node: Node, copies: Map<Node, Node>): Node {
  const known = copies.get(node);
  if (known !== undefined) return known;
  if (node.kind !== "folder") {
    const copy = { ...node };
    copies.set(node, copy);
    return copy;
  }
  const copy = folder();
  copies.set(node, copy);
  for (const [name, child] of node.entries) copy.entries.set(name, frozen(child, copies));
  for (const [name, child] of node.durable) copy.durable.set(name, frozen(child, copies));
  copy.changes = node.changes.map(({ drop, set }) => ({
    drop,
    set: set && { name: set.name, node: frozen(set.node, copies) },
  }));
  return copy;
}

function lay(node: Node, path: string, survivors: Survivors, random: Random): void {
  if (node.kind === "link") return fs.symlinkSync(node.target, path);
  if (node.kind === "file") return fs.writeFileSync(path, bytesLeft(node, survivors, random));
  fs.mkdirSync(path);
  for (const [name, child] of namesLeft(node, survivors, random)) {
    lay(child, join(path, name), survivors, random);
  }
}

function namesLeft(node: FolderNode, { names }: Survivors, random: Random): Map<string, Node> {
  if (names === "none") return node.durable;
  if (names === "all") return node.entries;
  const left = new Map(node.durable);
  for (const change of node.changes) if (random.below(2) === 0) apply(left, change);
  return left;
}

function bytesLeft(node: FileNode, { bytes }: Survivors, random: Random): Buffer {
  const { content, durable, uncut } = node;
  if (uncut !== undefined && (bytes === "none" || (bytes === "torn" && random.below(2) === 0))) {
    return uncut;
  }
  if (bytes === "none" || content === durable) return durable;
  if (bytes === "all") return content;
  const [least, most] = [content.length, durable.length].toSorted((a, b) => a - b);
  const left = Buffer.alloc(least! + random.below(most! - least! + 1));
  durable.copy(left);
  for (let at = 0; at < left.length;) {
    const end = at + 1 + random.below(200);
    if (random.below(2) === 0 && at < content.length) content.copy(left, at, at, end);
    at = end;
  }
  return left;
}
