/** A generation that can be restored, as it is listed: of a data directory or of an archive. */
export interface Snapshot {
  /** A number in a data directory, a name in an archive. */
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
  readonly fromOffset: number;
  readonly toOffset: number;
  readonly rdbBytes: number;
  /** In hex. */
  readonly rdbCrc64: string | undefined;
  readonly logBytes: number;
  readonly replicationIds: readonly { readonly replid: string; readonly fromOffset: number }[];
  /** Undefined for a data directory. */
  readonly encrypted: boolean | undefined;
}

/** The same for programs that read JSON, by the names and units of INFO. */
export function snapshotToJson(snapshot: Snapshot) {
  const time = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString());
  const { encrypted } = snapshot;
  return {
    id: snapshot.id,
    state: snapshot.state,
    sealed_reason: snapshot.sealedReason ?? null,
    primary: snapshot.primary ?? null,
    primary_version: snapshot.primaryVersion ?? null,
    rdb_format: snapshot.rdbFormat ?? null,
    rdb_version: snapshot.rdbVersion ?? null,
    from_time: time(snapshot.fromMs),
    to_time: time(snapshot.toMs),
    from_offset: snapshot.fromOffset,
    to_offset: snapshot.toOffset,
    durable_offset: snapshot.toOffset,
    rdb_bytes: snapshot.rdbBytes,
    rdb_crc64: snapshot.rdbCrc64 ?? null,
    log_bytes: snapshot.logBytes,
    replication_ids: snapshot.replicationIds.map(({ replid, fromOffset }) => ({
      replid,
      from_offset: fromOffset,
    })),
    ...(encrypted === undefined ? {} : { encrypted }),
  };
}
