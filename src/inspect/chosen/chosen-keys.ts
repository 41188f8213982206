import type { Offset } from "../../base/history.ts";
import type { RdbHeader } from "../../rdb/header.ts";
import type { RdbKind } from "../../rdb/reader/entry.ts";
import type { RdbFormat } from "../../rdb/releases.ts";
import type { KeptGeneration } from "../../store/restore/kept-generation.ts";
import { headerOf } from "../../store/restore/rdb-header.ts";
import { EntrySource, type FoundEntry } from "./entry-source.ts";
import type { ChooseOptions, ReplayedRdb } from "./replay.ts";
import type { KeyMatcher } from "../needs/selection.ts";

/** A key as of the moment, with its value as it stands in an RDB. */
export interface ChosenEntry {
  readonly db: number;
  readonly key: Uint8Array;
  readonly kind: RdbKind;
  /** The type of the value in the RDB ("Redis, rdb.h": RDB_TYPE_…). */
  readonly opcode: number;
  /** What stands behind type and key: with the type before it, what RESTORE takes before version and CRC64. */
  readonly value: Uint8Array;
  /** Unix time; it may be over by now. */
  readonly expiresAtMs: number | undefined;
  readonly idleSeconds: number | undefined;
  readonly frequency: number | undefined;
  /** Items, members, fields or stream entries; undefined for strings and modules' values. */
  readonly elements: number | undefined;
  /** Of the RDB that the value comes from. */
  readonly rdbVersion: number;
  readonly magic: RdbFormat["magic"];
}

/**
 * How the values were found: in the snapshot (`base`), by replaying what the log does to these keys (`replayed`), or by
 * replaying all of it (`whole`).
 */
export type FoundHow = "base" | "replayed" | "whole";

/** What was found out about the chosen keys, but for themselves. */
export interface FoundAbout {
  readonly generation: KeptGeneration;
  /** The offset after the last command that counts: the last safe cut at the point or before. */
  readonly offset: Offset;
  /** When that command had arrived, in milliseconds since 1970; undefined where no mark tells. */
  readonly atMs: number | undefined;
  readonly how: FoundHow;
  /** How many keys were needed beside the chosen ones, because commands make these from them. */
  readonly pulledIn: number;
}

/** The keys that a selection chooses, as of one moment. Dispose of it: it may hold files. */
export class ChosenKeys implements AsyncDisposable {
  readonly about: FoundAbout;
  /** The header of the RDB that the values come from, whose format is theirs. */
  readonly header: RdbHeader;
  readonly #rdb: ReplayedRdb;
  readonly #matcher: KeyMatcher;
  readonly #options: Pick<ChooseOptions, "disk" | "signal" | "onProgress">;

  /**
   * @param rdb which holds them among others.
   * @throws ReplicaError BAD_PAYLOAD, DISK_FAILED.
   */
  constructor(
    about: FoundAbout,
    rdb: ReplayedRdb,
    matcher: KeyMatcher,
    options: Pick<ChooseOptions, "disk" | "signal" | "onProgress">,
  ) {
    this.about = about;
    this.header = headerOf(rdb.path);
    this.#rdb = rdb;
    this.#matcher = matcher;
    this.#options = options;
  }

  /** How many commands of the log were replayed for them; undefined where that was all of them. */
  get replayedCommands(): number | undefined {
    return this.#rdb.replayedCommands;
  }

  /** The patterns that nothing matched in all that was read so far. */
  get unmet(): readonly string[] {
    return this.#matcher.unmet;
  }

  /**
   * Reads the keys; may be called again once the last reading has ended. One value is held at a time.
   * @throws RdbError for an RDB that is damaged or holds what isn't known here; DISK_FAILED; the signal's reason.
   */
  async *entries(): AsyncGenerator<ChosenEntry> {
    const { magic, version: rdbVersion } = this.header;
    for await (const { found, source } of this.located()) {
      const value = await source.value(found);
      const { db, key, kind, opcode, expiresAtMs, idleSeconds, frequency, elements } = found;
      const about = { db, key, kind, opcode, expiresAtMs, idleSeconds, frequency, elements };
      yield { ...about, value, rdbVersion, magic };
    }
  }

  /** The same with the place of each key instead of its value, which may be larger than memory. */
  async *located(): AsyncGenerator<{ found: FoundEntry; source: EntrySource }> {
    using source = new EntrySource({ ...this.#options, path: this.#rdb.path });
    const isWanted = (db: number, key: Uint8Array) => this.#matcher.chooses(db, key);
    for await (const found of source.entries(isWanted)) {
      this.#matcher.meet(found.key);
      yield { found, source };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rdb.remove();
  }
}
