import { GroupMemory, type KeyGroup, type Obstacle } from "./group-memory.ts";
import { NameSet } from "./name-set.ts";
import type { KeyMatcher } from "./selection.ts";

/** What a name that is remembered costs besides its bytes: the string, and its place in a set. */
const NAME_BYTES = 64;

/** The memory that names may take, in bytes. */
export interface NameLimits {
  /** For names that are needed though no pattern matches them. */
  readonly neededBytes: number;
  /** For commands whose keys nobody has needed so far. With less, the log is read more often, nothing else. */
  readonly groupBytes: number;
}

/**
 * The names of all keys that decide about the wanted ones: those that a pattern matches, and those from which commands make
 * needed ones, in whatever database. Commands that nobody has needed so far are remembered within a limit, so that one
 * reading of the log usually finds all; what doesn't fit has to be looked at again.
 */
export class NeededNames {
  readonly #matcher: KeyMatcher;
  readonly #limits: NameLimits;
  readonly #pulledIn = new NameSet();
  #pulledInBytes = 0;
  readonly #groups: GroupMemory;
  #hasForgotten = false;
  #isStale = false;
  #obstacle: Obstacle | undefined;

  constructor(matcher: KeyMatcher, limits: NameLimits) {
    this.#matcher = matcher;
    this.#limits = limits;
    this.#groups = new GroupMemory(limits.groupBytes);
  }

  has(key: Uint8Array): boolean {
    return this.hasAt(key, 0, key.length);
  }

  /** The same for a key that is a part of some bytes. */
  readonly hasAt = (bytes: Uint8Array, from: number, to: number): boolean =>
    this.#matcher.matchesAt(bytes, from, to) || this.#pulledIn.hasAt(bytes, from, to);

  /** How many keys are needed though no pattern matches them. */
  get pulledIn(): number {
    return this.#pulledIn.size;
  }

  /** Whether the names that are needed take more memory than they may. Then they aren't all here. */
  get isOverfull(): boolean {
    return this.#pulledInBytes > this.#limits.neededBytes;
  }

  /** Why the needed keys can't be told from the log alone; undefined where they can. */
  get obstacle(): Obstacle | undefined {
    return this.#obstacle;
  }

  /** Whether names became needed after commands were forgotten that may concern them: then the log is to be read again. */
  get isStale(): boolean {
    return this.#isStale;
  }

  /** Begins another reading of the log. */
  beginAgain(): void {
    this.#groups.clear();
    this.#hasForgotten = false;
    this.#isStale = false;
  }

  /** Takes the keys of a command that makes some from others. @returns whether any that it writes is needed by now. */
  take(group: KeyGroup): boolean {
    const { keys, written } = group;
    if (keys.some(this.hasAt, written)) {
      this.#obstacle ??= group.obstacle;
      this.#absorb(keys.views());
      return true;
    }
    this.#hasForgotten ||= !this.#groups.add(group);
    return false;
  }

  /** Makes these names needed, and those of all remembered commands that write one of them, to the end of the chain. */
  #absorb(names: readonly Uint8Array[]): void {
    const waiting: Uint8Array[] = [];
    const add = (name: Uint8Array) => {
      // What a pattern matches has been needed from the start: no command that writes it is remembered.
      if (this.isOverfull || this.has(name)) return;
      const own = Uint8Array.from(name);
      this.#add(own);
      waiting.push(own);
    };
    const meet = (obstacle: Obstacle) => {
      this.#obstacle ??= obstacle;
    };
    names.forEach(add);
    for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
      this.#groups.takeWriting(name, add, meet);
    }
  }

  #add(name: Uint8Array): void {
    this.#pulledIn.add(name);
    this.#pulledInBytes += name.length + NAME_BYTES;
    if (this.#hasForgotten) this.#isStale = true;
  }
}
