import type { CommandNames } from "./schema/command-names.ts";
import type { Password } from "./password.ts";
import type { ServedTls } from "./served-tls.ts";
import type { NumberRange, SnapshotServer } from "./schema/setting-values.ts";

/** The resolved settings of one run; names end in their unit. */
export interface Settings {
  readonly dir: string;
  /** Whether quite another primary may be followed into a directory that keeps something. */
  readonly adopt: boolean;
  readonly port: number;
  readonly bind: string;
  readonly announceIp: string | undefined;
  readonly announcePort: number | undefined;
  /** Whether Sentinel may hand this replica to readers. */
  readonly announce: boolean;
  readonly username: string | undefined;
  /** For the primary, from the file or REPLICA_PASSWORD; one in the URL takes precedence. */
  readonly password: Password | undefined;
  /** For the Sentinels themselves, not for the primary that they name. */
  readonly sentinel: {
    readonly username: string | undefined;
    readonly password: Password | undefined;
  };
  /** For this replica's own port. */
  readonly requirepass: Password | undefined;
  readonly unprotected: boolean;
  /** TLS on this replica's own port; undefined: it is served without. */
  readonly portTls: ServedTls | undefined;
  readonly tls: {
    readonly caFile: string | undefined;
    readonly certFile: string | undefined;
    readonly keyFile: string | undefined;
    readonly serverName: string | undefined;
    readonly insecure: boolean;
  };
  readonly http: { readonly host: string; readonly port: number } | undefined;
  /** TLS on HTTP; undefined: it is served without. */
  readonly httpTls: ServedTls | undefined;
  /** The names, beside localhost and addresses, by which it may be asked. */
  readonly httpHosts: readonly string[];
  readonly readyLagMs: number;
  readonly cluster: {
    readonly readFrom: "primary" | "replica";
    /** How many shards may take a snapshot at a time. */
    readonly snapshots: number;
    /** The shards to follow, counted from 0 in the order of their slots; undefined: all. */
    readonly shards: NumberRange | undefined;
    /** The port of shard 1's relay, from which those of the others follow; undefined: they have none. */
    readonly relayPorts: number | undefined;
  };
  readonly io: "auto" | "buffered" | "direct";
  readonly rdbSyncBytes: number;
  /** The server that Valkey is told to write snapshots for; undefined: its newest form. */
  readonly rdbFor: SnapshotServer | undefined;
  readonly fsync: "always" | "everysec" | "no";
  readonly ack: "written" | "durable" | "archived";
  readonly snapshotEveryMs: number | undefined;
  readonly snapshotRatio: number;
  /** The log's least size for `snapshotRatio`. */
  readonly snapshotRatioFromBytes: number;
  readonly keep: number;
  readonly keepForMs: number | undefined;
  readonly minFreeBytes: number;
  /** The largest share of the room that `minFreeBytes` may be: a disk may be small, and nobody set it. */
  readonly minFreeShare: number;
  readonly archive: ArchiveSettings;
  /** How long a durable byte may be missing in the archive before the replica is not ready; undefined: for ever. */
  readonly readyArchiveLagMs: number | undefined;
  readonly timeoutMs: number;
  readonly syncTimeoutMs: number;
  /** How many links a full sync may take. */
  readonly syncLinks: 1 | 2;
  /** Whether the primary is asked with INFO over a second connection. */
  readonly askPrimary: boolean;
  /** What the primary calls PSYNC and SYNC; undefined: by those names. */
  readonly psyncCommand: CommandNames | undefined;
  readonly syncCommand: CommandNames | undefined;
  readonly retryMaxMs: number;
  readonly logLevel: "debug" | "info" | "warn" | "error";
  readonly logFormat: "text" | "json";
  readonly progress: boolean;
}

/** Where the archive is, and how it is written and read. */
export interface ArchiveSettings {
  /** `s3://bucket/prefix` or `file:///path` as given, not checked; undefined: nothing is archived. */
  readonly url: string | undefined;
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
  readonly everyMs: number;
  /** Undefined: for ever. */
  readonly keepForMs: number | undefined;
  /** age recipients; none: it is not encrypted. */
  readonly recipients: readonly string[];
  /** The file of an age identity. */
  readonly identityFile: string | undefined;
  readonly compression: "zstd" | "none";
  /** Undefined: as fast as it goes. */
  readonly bytesPerSecond: number | undefined;
  /** Whether an empty data directory is filled from there. */
  readonly fillsEmpty: boolean;
}
