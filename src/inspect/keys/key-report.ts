import { Biggest } from "./biggest.ts";
import {
  Breakdown,
  type DatabaseAmount,
  type EncodingAmount,
  type TypeAmount,
} from "./breakdown.ts";
import type { KeyEntry } from "./key-entry.ts";
import { PrefixCounts, type PrefixCount } from "./prefix-counts.ts";
import { PrefixCut } from "./prefix-cut.ts";
import { type Amount, Tally } from "./tally.ts";
import { type LifeAmount, LifeTimes } from "./time-to-live.ts";

/** How many prefixes are counted exactly. They take some 12 MB, and 25 MB more where all are as long as can be. */
export const MAX_PREFIXES = 100_000;
/** How much is kept of the name of a key that is among the biggest: a key may have 512 MB. */
export const MAX_NAME_BYTES = 4_096;

export interface KeyReportOptions {
  /** How many separators a prefix has; 0: prefixes aren't counted. */
  readonly prefixDepth: number;
  /** Each of these bytes ends a part of a prefix. */
  readonly separators: Uint8Array;
  /** How many of the biggest keys and prefixes are told. */
  readonly top: number;
  /** Which keys count; undefined: all. */
  readonly selects: ((entry: KeyEntry) => boolean) | undefined;
  /** Any number: see `PrefixCounts`. */
  readonly seed: number;
  /** How many prefixes are counted exactly. */
  readonly maxPrefixes?: number;
}

/** One of the biggest keys. */
export interface BigKey {
  /** Which snapshot it is from, by its place in `snapshots`. */
  readonly snapshot: number;
  readonly db: number;
  /** Its name, or the first `MAX_NAME_BYTES` of it. */
  readonly key: Uint8Array;
  readonly keyBytes: number;
  readonly kind: string;
  readonly module: string | undefined;
  readonly encoding: string;
  readonly bytes: number;
  readonly elements: number | undefined;
  readonly expiresAtMs: number | undefined;
}

export interface PrefixesFound {
  /** Whether every prefix was counted from its first key on. */
  readonly isExact: boolean;
  /** How many there are; undefined where there are more than can be counted exactly. */
  readonly distinct: number | undefined;
  /** What a prefix that isn't told of can have at most, where not all are counted. */
  readonly missedKeys: number;
  readonly missedBytes: number;
  readonly byBytes: readonly PrefixCount[];
  readonly byKeys: readonly PrefixCount[];
}

/** What snapshots hold. */
export interface KeysFound {
  readonly total: Amount;
  /** Keys that were passed over, since they weren't selected. */
  readonly passedOver: number;
  /** What each snapshot has of it, in the order in which they were read. */
  readonly snapshots: readonly Amount[];
  readonly types: readonly TypeAmount[];
  readonly databases: readonly DatabaseAmount[];
  readonly encodings: readonly EncodingAmount[];
  readonly lifeTimes: readonly LifeAmount[];
  readonly prefixes: PrefixesFound | undefined;
  readonly byBytes: readonly BigKey[];
  readonly byElements: readonly BigKey[];
}

/** Counts the keys of one snapshot or several, in memory that doesn't grow with their number. */
export class KeyReport {
  readonly #options: KeyReportOptions;
  readonly #breakdown = new Breakdown();
  readonly #lifeTimes = new LifeTimes();
  readonly #prefixes: { readonly cut: PrefixCut; readonly counts: PrefixCounts } | undefined;
  readonly #byBytes: Biggest<BigKey>;
  readonly #byElements: Biggest<BigKey>;
  readonly #snapshots: Tally[] = [];
  #snapshot = new Tally();
  #nowMs = 0;
  #passedOver = 0;

  constructor(options: KeyReportOptions) {
    this.#options = options;
    const { prefixDepth, separators, top, seed, maxPrefixes = MAX_PREFIXES } = options;
    this.#byBytes = new Biggest(top);
    this.#byElements = new Biggest(top);
    if (prefixDepth > 0)
      this.#prefixes = {
        cut: new PrefixCut(prefixDepth, separators),
        counts: new PrefixCounts(maxPrefixes, seed),
      };
  }

  /** Begins the next snapshot. @param atMs the moment that expiries are compared with, in milliseconds since 1970. */
  begin(atMs: number): void {
    this.#snapshot = new Tally();
    this.#snapshots.push(this.#snapshot);
    this.#nowMs = atMs;
  }

  /** Adds a key of the snapshot that was begun last. */
  add(entry: KeyEntry): void {
    const { selects } = this.#options;
    if (selects !== undefined && !selects(entry)) {
      this.#passedOver++;
      return;
    }
    const bytes = entry.endByte - entry.startByte;
    const { elements } = entry;
    this.#snapshot.add(bytes, elements);
    this.#breakdown.add(entry, bytes);
    this.#lifeTimes.add(entry.expiresAtMs, this.#nowMs, bytes, elements);
    if (this.#prefixes !== undefined) {
      const { cut, counts } = this.#prefixes;
      counts.add(entry, cut.lengthIn(entry), bytes, elements ?? 0);
    }
    const isBig = this.#byBytes.takes(bytes);
    const isLong = elements !== undefined && this.#byElements.takes(elements);
    if (!isBig && !isLong) return;
    const big = this.#bigKeyOf(entry, bytes);
    if (isBig) this.#byBytes.add(bytes, big);
    if (isLong) this.#byElements.add(elements, big);
  }

  #bigKeyOf(entry: KeyEntry, bytes: number): BigKey {
    const { db, keyBuffer, keyStart, keyEnd, kind, module, encoding, elements, expiresAtMs } =
      entry;
    return {
      snapshot: this.#snapshots.length - 1,
      db,
      key: new Uint8Array(
        keyBuffer.subarray(keyStart, Math.min(keyEnd, keyStart + MAX_NAME_BYTES)),
      ),
      keyBytes: keyEnd - keyStart,
      kind,
      module,
      encoding,
      bytes,
      elements,
      expiresAtMs,
    };
  }

  /** What was found so far. */
  found(): KeysFound {
    return {
      total: this.#breakdown.total(),
      passedOver: this.#passedOver,
      snapshots: this.#snapshots,
      types: this.#breakdown.types(),
      databases: this.#breakdown.databases(),
      encodings: this.#breakdown.encodings(),
      lifeTimes: this.#lifeTimes.amounts(),
      prefixes: this.#prefixes && prefixesOf(this.#prefixes.counts, this.#options.top),
      byBytes: this.#byBytes.items(),
      byElements: this.#byElements.items(),
    };
  }
}

function prefixesOf(counts: PrefixCounts, top: number): PrefixesFound {
  const byBytes = new Biggest<PrefixCount>(top);
  const byKeys = new Biggest<PrefixCount>(top);
  const kept = (count: PrefixCount) => ({ ...count, prefix: new Uint8Array(count.prefix) });
  let distinct = 0;
  for (const count of counts.all()) {
    if (count.prefix.length > 0) distinct++;
    if (byBytes.takes(count.bytes)) byBytes.add(count.bytes, kept(count));
    if (byKeys.takes(count.keys)) byKeys.add(count.keys, kept(count));
  }
  const { isExact, missedKeys, missedBytes } = counts;
  return {
    isExact,
    distinct: isExact ? distinct : undefined,
    missedKeys,
    missedBytes,
    byBytes: byBytes.items(),
    byKeys: byKeys.items(),
  };
}
