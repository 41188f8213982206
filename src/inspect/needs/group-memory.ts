import type { KeySpans } from "./key-spans.ts";
import { isSameName, nameHash } from "./name-hash.ts";

/** The keys of a command that makes some of them from others. */
export interface KeyGroup {
  readonly keys: KeySpans;
  /** Those that it writes, all of them or one by number: whoever needs one of them needs all keys of the command. */
  readonly written: "all" | number;
  /** Says why the command can't be replayed with its keys alone; undefined where it can. */
  readonly obstacle: Obstacle | undefined;
}

/** Why keys can't be told from the log alone: a command, and the byte of the log's file where it begins. */
export interface Obstacle {
  readonly what: string;
  readonly byte: number;
}

/** A group in the memory: how long its names are, its obstacle's number (0: none), whether it was taken, and what it writes. */
const GROUP_HEAD_BYTES = 16;
/** A name: how long it is. */
const NAME_HEAD_BYTES = 4;
/** What finds a group by a name that it writes: three numbers. */
const LINK_BYTES = 12;
/** So many names share a chain of links in a full memory of usual size: a few. */
const CHAINS = 1 << 17;
/** How many groups are remembered to be known, by their hash. */
const RECENT = 1 << 16;
const NONE = -1;
/** What a group writes, where it isn't one of its names by number. */
const ALL = -1;

/**
 * Remembers groups of keys in a few large arrays, and finds those that write a name. The same group is mostly remembered
 * once: workers repeat a command on the same keys all day.
 */
export class GroupMemory {
  readonly #maxBytes: number;
  /** As large as they can become: the system gives memory to what is used of them, and nothing has to be moved. */
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #usedBytes = 0;
  #obstacles: Obstacle[] = [];
  /** For each chain its last link. */
  readonly #chains = new Int32Array(CHAINS).fill(NONE);
  /** For each link the one before it, the name and the group. */
  readonly #links: Int32Array;
  #linkCount = 0;
  readonly #recent = new Int32Array(RECENT).fill(NONE);

  /** @param maxBytes for names, and what finds them. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
    this.#bytes = new Uint8Array(maxBytes);
    this.#view = new DataView(this.#bytes.buffer);
    this.#links = new Int32Array(Math.floor(maxBytes / Int32Array.BYTES_PER_ELEMENT));
  }

  clear(): void {
    this.#usedBytes = 0;
    this.#linkCount = 0;
    this.#obstacles = [];
    this.#chains.fill(NONE);
    this.#recent.fill(NONE);
  }

  /** Remembers a group. @returns false where there is no room for it. */
  add({ keys, written, obstacle }: KeyGroup): boolean {
    const only = written === "all" ? ALL : written;
    const group = this.#usedBytes;
    const names = group + GROUP_HEAD_BYTES;
    let at = names;
    for (let nth = 0; nth < keys.length; nth++) {
      at += NAME_HEAD_BYTES + keys.to(nth) - keys.from(nth);
    }
    const namesBytes = at - names;
    const links = LINK_BYTES * (this.#linkCount + (only === ALL ? keys.length : 1));
    if (at + links > this.#maxBytes) return false;
    this.#copy(keys, names);
    const place = ((nameHash(this.#bytes, names, at) + only) >>> 0) % RECENT;
    if (obstacle === undefined && this.#isSame(this.#recent[place]!, names, at, only)) return true;
    this.#view.setUint32(group, namesBytes);
    this.#view.setUint32(group + 4, obstacle === undefined ? 0 : this.#obstacles.push(obstacle));
    this.#view.setUint32(group + 8, 0);
    this.#view.setInt32(group + 12, only);
    this.#usedBytes = at;
    if (obstacle === undefined) this.#recent[place] = group;
    this.#link(group, at, only);
    return true;
  }

  /** Writes the names one behind the other, each with its length before it. */
  #copy(keys: KeySpans, to: number): void {
    let at = to;
    for (let nth = 0; nth < keys.length; nth++) {
      const [from, end] = [keys.from(nth), keys.to(nth)];
      this.#view.setUint32(at, end - from);
      at += NAME_HEAD_BYTES;
      for (let byte = from; byte < end; byte++) this.#bytes[at++] = keys.bytes[byte]!;
    }
  }

  /**
   * Takes all groups that write a name, each once.
   * @param onGroup gets the other names, one by one, and the obstacle.
   */
  takeWriting(
    name: Uint8Array,
    onName: (name: Uint8Array) => void,
    onObstacle: (obstacle: Obstacle) => void,
  ): void {
    const chain = (nameHash(name, 0, name.length) >>> 0) % CHAINS;
    for (let link = this.#chains[chain]!; link !== NONE; link = this.#links[3 * link]!) {
      const at = this.#links[3 * link + 1]!;
      const group = this.#links[3 * link + 2]!;
      const isTaken = this.#view.getUint32(group + 8) !== 0;
      if (isTaken || this.#view.getUint32(at) !== name.length) continue;
      if (!isSameName(name, 0, name.length, this.#bytes, at + NAME_HEAD_BYTES)) continue;
      this.#view.setUint32(group + 8, 1);
      const obstacle = this.#obstacles[this.#view.getUint32(group + 4) - 1];
      if (obstacle !== undefined) onObstacle(obstacle);
      const end = group + GROUP_HEAD_BYTES + this.#view.getUint32(group);
      for (let next = group + GROUP_HEAD_BYTES; next < end;) {
        const from = next + NAME_HEAD_BYTES;
        next = from + this.#view.getUint32(next);
        onName(this.#bytes.subarray(from, next));
      }
    }
  }

  #isSame(group: number, from: number, to: number, only: number): boolean {
    if (group === NONE || this.#view.getUint32(group) !== to - from) return false;
    if (this.#view.getInt32(group + 12) !== only) return false;
    return isSameName(this.#bytes, from, to, this.#bytes, group + GROUP_HEAD_BYTES);
  }

  #link(group: number, end: number, only: number): void {
    let at = group + GROUP_HEAD_BYTES;
    for (let nth = 0; at < end; nth++) {
      const from = at + NAME_HEAD_BYTES;
      const to = from + this.#view.getUint32(at);
      if (only === ALL || only === nth) {
        const chain = (nameHash(this.#bytes, from, to) >>> 0) % CHAINS;
        const link = 3 * this.#linkCount;
        this.#links[link] = this.#chains[chain]!;
        this.#links[link + 1] = at;
        this.#links[link + 2] = group;
        this.#chains[chain] = this.#linkCount++;
      }
      at = to;
    }
  }
}
