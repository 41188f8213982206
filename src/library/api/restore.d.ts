import type { ArchiveOptions, Moment, OnProgress, SourceOptions, Stoppable } from "./common.d.ts";

/** A generation that can be restored. */
export interface Snapshot {
  /** A number in a data directory, a name in an archive; `restore` takes it. */
  readonly id: number | string;
  /** `open` and `incomplete` are of archives: more may come, or a part of the log is missing. */
  readonly state: "current" | "sealed" | "open" | "incomplete";
  readonly sealedReason: string | undefined;
  /** A URL without its password. */
  readonly primary: string | undefined;
  readonly primaryVersion: string | undefined;
  /** The first bytes of the RDB, which name its format: `REDIS0011`. */
  readonly rdbFormat: string | undefined;
  readonly rdbVersion: number | undefined;
  /** The first and the last moment that can be restored, in milliseconds since 1970; undefined: unknown. */
  readonly fromMs: number | undefined;
  readonly toMs: number | undefined;
  /** The offset of the last byte in the snapshot, and of the last durable one in the log. */
  readonly fromOffset: number;
  readonly toOffset: number;
  readonly rdbBytes: number;
  /** In hex. */
  readonly rdbCrc64: string | undefined;
  readonly logBytes: number;
  /** The histories that the stream has been in, each from an offset on. */
  readonly replicationIds: readonly { readonly replid: string; readonly fromOffset: number }[];
  /** Undefined for a data directory. */
  readonly encrypted: boolean | undefined;
}

/** Something that is not as it was written. */
export interface Damage {
  readonly file: string;
  /** The byte of the file where it is; undefined: unknown. */
  readonly byte: number | undefined;
  readonly what: string;
  /** What it means for a restore. */
  readonly meaning: string;
}

/** What checking an RDB found. */
export interface CheckedRdb {
  readonly format: string;
  readonly bytes: number;
  /** In hex. */
  readonly crc64: string;
  /** False where the RDB has no checksum of its own to compare with. */
  readonly checked: boolean;
}

/** What checking one generation found. */
export interface CheckedGeneration {
  readonly id: number | string;
  /** Undefined where the snapshot is damaged, and after a quick check. */
  readonly rdb: CheckedRdb | undefined;
  readonly fromOffset: number | undefined;
  /** The last offset that a restore can reach; undefined where the snapshot is damaged. */
  readonly toOffset: number | undefined;
  readonly logBytes: number | undefined;
  readonly damages: readonly Damage[];
}

export interface Verified {
  readonly kind: "rdb" | "directory" | "archive";
  /** The absolute path, or the URL. */
  readonly source: string;
  readonly ok: boolean;
  /** All damage, that of the generations included. */
  readonly damages: readonly Damage[];
  /** What looks like damage and isn't, for people. */
  readonly notes: readonly string[];
  /** Of a single file; undefined where it is damaged, and for other sources. */
  readonly rdb: CheckedRdb | undefined;
  /** Oldest first; empty for a single file. */
  readonly generations: readonly CheckedGeneration[];
}

export interface VerifyOptions extends Stoppable, ArchiveOptions {
  /** Of an archive: check names, sizes and how its objects join, without reading them all. */
  readonly quick?: boolean | undefined;
  readonly onProgress?: OnProgress | undefined;
}

export interface RestoreOptions extends SourceOptions {
  /** As of then. Default, with no `offset`: the last durable byte. */
  readonly at?: Moment | undefined;
  /** As of this replication offset. */
  readonly offset?: number | undefined;
  /** From this generation instead of the newest that fits: an `id` of `snapshots`. */
  readonly generation?: number | string | undefined;
  /** `multipart` (the default): `appendonlydir/`, Redis 7 and later; `single`: one file, Redis 4 and later. */
  readonly layout?: "multipart" | "single" | undefined;
  /** The server that is to load it: `redis-8.0`. What it can't load is refused beforehand. */
  readonly for?: string | undefined;
  /** The mode of the files, such as 0o640. Default: nobody may read them who couldn't read the source. */
  readonly mode?: number | undefined;
  readonly onProgress?: OnProgress | undefined;
}

export interface Restored {
  /** The folder that a stock server starts from, as an absolute path. */
  readonly dir: string;
  readonly generation: number | string;
  /** The offset after the last restored command, and the history that it is of: `readLog` goes on from there. */
  readonly offset: number;
  readonly replid: string | undefined;
  /** When that command had arrived, in milliseconds since 1970; undefined where that is unknown. */
  readonly atMs: number | undefined;
  /** Commands after the snapshot; those that were rewritten to do the same whenever they are loaded; those left out. */
  readonly commands: number;
  readonly rewrittenCommands: number;
  readonly leftOutCommands: number;
  readonly rdbBytes: number;
  readonly logBytes: number;
}
