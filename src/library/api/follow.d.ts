import type { Duration, ErrorCode, Size } from "./common.d.ts";

/**
 * The settings of `replica follow`, by the names of their flags in camel case, checked as these are; docs/SETTINGS.md has
 * their defaults. No variable and no settings file is read.
 */
export interface FollowOptions {
  /** The primary: `redis://`, `rediss://`, `unix://` or `redis+sentinel://`. */
  readonly url: string;
  /** The data directory. */
  readonly dir: string;
  /** Follow URL even into a data directory that holds the history of another primary; without it that is refused. */
  readonly adopt?: boolean | undefined;
  /** Serve a RESP port, which other replicas may attach to; 0 picks a free one. Without it nothing listens. */
  readonly port?: number | string | undefined;
  /** The address to serve on. */
  readonly bind?: string | undefined;
  /** The address that the primary reports for this replica (NAT, containers). */
  readonly announceIp?: string | undefined;
  /** The port that the primary reports for this replica (NAT, containers). */
  readonly announcePort?: number | string | undefined;
  /**
   * Whether Sentinel hands this replica to clients, whose reads it refuses; it is repointed either way
   * (replica-announced).
   */
  readonly announce?: "yes" | "no" | undefined;
  /** The file that holds the password for clients of this port. */
  readonly requirepassFile?: string | undefined;
  /**
   * Serve beyond loopback without a password; and let clients that need none change things though the primary has a
   * password.
   */
  readonly unprotected?: boolean | undefined;
  /** Serve metrics, health and a page at `ADDR:PORT`. Without it nothing listens. */
  readonly http?: string | undefined;
  /** The certificate (PEM, with its chain) for TLS on --port, which then takes nothing else; needs --port-tls-key. */
  readonly portTlsCert?: string | undefined;
  /** The private key (PEM) of --port-tls-cert. */
  readonly portTlsKey?: string | undefined;
  /** The CA certificates (PEM) one of which must have signed the certificate of each client of --port. */
  readonly portTlsCa?: string | undefined;
  /** The certificate (PEM, with its chain) for TLS on --http, which then takes nothing else; needs --http-tls-key. */
  readonly httpTlsCert?: string | undefined;
  /** The private key (PEM) of --http-tls-cert. */
  readonly httpTlsKey?: string | undefined;
  /** The CA certificates (PEM) one of which must have signed the certificate of each client of --http. */
  readonly httpTlsCa?: string | undefined;
  /** A name, beside localhost and addresses, by which --http is asked; may be given more than once. */
  readonly httpHost?: string | readonly string[] | undefined;
  /** How long a received byte may stay unsynced (with --fsync no: unwritten) before the replica counts as not ready. */
  readonly readyLag?: Duration | undefined;
  /** The user name for the primary; one in the URL takes precedence. */
  readonly username?: string | undefined;
  /** The file that holds the primary's password; one in the URL takes precedence. No variable is looked at. */
  readonly passwordFile?: string | undefined;
  /** The user name for the Sentinels themselves; needs --sentinel-password-file. */
  readonly sentinelUsername?: string | undefined;
  /** The file that holds the Sentinels' own password; without it, no password is sent to them. */
  readonly sentinelPasswordFile?: string | undefined;
  /** The CA certificates (PEM) to verify the primary's certificate with. */
  readonly tlsCa?: string | undefined;
  /** The client certificate (PEM) to present to the primary; needs --tls-key. */
  readonly tlsCert?: string | undefined;
  /** The private key (PEM) of --tls-cert. */
  readonly tlsKey?: string | undefined;
  /** The host name to request, and to verify in the primary's certificate. */
  readonly tlsServerName?: string | undefined;
  /** Don't verify the primary's certificate. */
  readonly tlsInsecure?: boolean | undefined;
  /**
   * Write snapshots through the page cache (buffered) or past it (direct); auto: direct where the file system allows
   * it, unless the disk was waited for and buffered was faster.
   */
  readonly io?: "auto" | "buffered" | "direct" | undefined;
  /** How much of an arriving snapshot to write between two syncs to disk. */
  readonly rdbSyncBytes?: Size | undefined;
  /**
   * Have Valkey (9.0 and later) write snapshots that this older server loads; others write their own form whatever is
   * asked.
   */
  readonly rdbFor?: string | undefined;
  /** When to sync the log to disk: always, everysec or no. */
  readonly fsync?: "always" | "everysec" | "no" | undefined;
  /** The offset to send in REPLCONF ACK: written, durable (WAIT then means on disk) or archived (in the --archive). */
  readonly ack?: "written" | "durable" | "archived" | undefined;
  /** How often to take a new snapshot, over a second link; or off. */
  readonly snapshotEvery?: Duration | undefined;
  /**
   * Take a new snapshot once the log is N times as large as the current one (from 64KiB on; from 1GiB on where N
   * isn't set), or a quarter of the disk's room; 0: never.
   */
  readonly snapshotRatio?: number | string | undefined;
  /**
   * How many generations before the current one to keep at least; one that is empty or was current for moments pushes
   * out no other.
   */
  readonly keep?: number | string | undefined;
  /** Also keep every generation that was current within this time, while the disk has room. */
  readonly keepFor?: Duration | undefined;
  /**
   * Free disk space to keep: below it old generations give way, no new snapshot over a second link is taken unless it
   * frees more than it takes, and a warning is logged; where SIZE isn't set, at most an eighth of the room.
   */
  readonly minFree?: Size | undefined;
  /** Carry every generation to this archive while it grows: s3://bucket/prefix, or file:///path. */
  readonly archive?: string | undefined;
  /** The longest time that a durable byte waits before it is sent to the archive; 8 MiB are sent at once. */
  readonly archiveEvery?: Duration | undefined;
  /** How long a moment can be restored from the archive; off: for ever. */
  readonly archiveKeepFor?: Duration | undefined;
  /** The server of an s3:// archive, such as https://host:port. */
  readonly archiveEndpoint?: string | undefined;
  /** The region of an s3:// archive's bucket. */
  readonly archiveRegion?: string | undefined;
  /** Encrypt the archive to this age recipient (age1…); may be given more than once. */
  readonly archiveRecipient?: string | readonly string[] | undefined;
  /** The file of the age identity that reads an encrypted archive. */
  readonly archiveIdentity?: string | undefined;
  /** Compress what is archived: zstd or none. */
  readonly archiveCompression?: "zstd" | "none" | undefined;
  /** How many bytes a second to send to the archive at most. */
  readonly archiveRate?: Size | undefined;
  /** Don't fill an empty data directory from the archive. */
  readonly noArchiveBootstrap?: boolean | undefined;
  /** How long a durable byte may be missing in the archive before the replica counts as not ready. */
  readonly readyArchiveLag?: Duration | undefined;
  /** How long the link may be silent before it is closed (repl-timeout). */
  readonly timeout?: Duration | undefined;
  /** The time limit for connecting, and for each handshake reply. */
  readonly syncTimeout?: Duration | undefined;
  /**
   * How many links a full sync may take: with 2, the snapshot comes on one of its own where the primary can do that
   * (Redis and Valkey from 8.0), and the stream beside it.
   */
  readonly syncLinks?: 1 | 2 | "1" | "2" | undefined;
  /**
   * Whether to ask the primary with INFO: if it has a primary itself, why a resync broke, how large a full resync
   * would be.
   */
  readonly askPrimary?: "yes" | "no" | undefined;
  /**
   * What a managed service calls PSYNC; HOST:PORT=NAME where each node has a name of its own; may be given more than
   * once.
   */
  readonly psyncCommand?: string | readonly string[] | undefined;
  /** The same for SYNC, which is sent to a primary that doesn't know PSYNC. */
  readonly syncCommand?: string | readonly string[] | undefined;
  /** The longest pause between two attempts to connect; up to 12 times this after repeated broken syncs. */
  readonly retryMax?: Duration | undefined;
}

/** A state of the link, by Redis's name. */
export type LinkState =
  | "none"
  | "connect"
  | "connecting"
  | "receive-pong"
  | "receive-auth"
  | "receive-port"
  | "receive-ip"
  | "receive-capa"
  | "receive-version"
  | "receive-psync"
  | "receive-bulk-header"
  | "transfer"
  | "connected";

/** The first and the last byte of a log's three cursors are replication offsets: durable ≤ written ≤ received. */
export interface Cursors {
  readonly received: number;
  readonly written: number;
  /** Survives a power cut. */
  readonly durable: number;
}

/** The generation that is followed: a snapshot and the log after it. */
export interface CurrentGeneration {
  readonly id: number;
  /** When it became current, in milliseconds since 1970. */
  readonly currentAtMs: number;
  /** The offset of the last byte in the snapshot. */
  readonly baseOffset: number;
  readonly rdbBytes: number;
  /** In hex. */
  readonly rdbCrc64: string;
}

/** What happened while following; `atMs` is in milliseconds since 1970. */
export type FollowEvent =
  /** The link went to another state. `connected`: the stream comes. */
  | { readonly type: "state"; readonly atMs: number; readonly state: LinkState }
  /** A snapshot is arriving; only the newest of several is told. */
  | {
      readonly type: "transfer";
      readonly atMs: number;
      readonly readBytes: number;
      /** Undefined while the primary doesn't say. */
      readonly totalBytes: number | undefined;
    }
  /** The cursors moved; only the newest of several is told. */
  | ({ readonly type: "moved"; readonly atMs: number } & Cursors)
  /** Another generation is followed from now on. */
  | ({ readonly type: "generation"; readonly atMs: number } & CurrentGeneration)
  /** What `replica.db` records as an event: `break`, `full-resync`, `partial-resync`, `retention`, `archive`, … */
  | {
      readonly type: "event";
      readonly atMs: number;
      readonly kind: string;
      readonly text: string;
    }
  /** So many events before this one were not read in time, and were dropped. */
  | { readonly type: "dropped"; readonly atMs: number; readonly count: number };

/** How a replica stands; a plain value. Times are in milliseconds since 1970. */
export interface FollowStatus {
  readonly startedAtMs: number;
  /** The data directory, as an absolute path. */
  readonly dir: string;
  readonly primary: { readonly name: string; readonly host: string; readonly port: number };
  readonly state: LinkState;
  /** For how long the primary has been silent, in milliseconds. */
  readonly silentMs: number;
  /** Seconds since the link was last up; undefined while it is, and before it ever was. */
  readonly downSeconds: number | undefined;
  /** Undefined unless a snapshot is arriving. */
  readonly transfer:
    { readonly readBytes: number; readonly totalBytes: number | undefined } | undefined;
  readonly cursors: Cursors;
  /** The replication id of the history that is followed. */
  readonly replid: string | undefined;
  /** Undefined until a first snapshot is whole. */
  readonly generation: CurrentGeneration | undefined;
  readonly logBytes: number;
  /** The moments from and to which can be restored; undefined where nothing is kept yet. */
  readonly oldestRestorableMs: number | undefined;
  readonly newestRestorableMs: number | undefined;
  readonly fullSyncs: number;
  readonly partialSyncs: number;
  readonly bytesPerSecond: { readonly received: number; readonly durable: number };
  /** The last failure. It stays when all is well again. */
  readonly lastBreak:
    { readonly code: ErrorCode; readonly message: string; readonly atMs: number } | undefined;
  /** Why it counts as not ready; undefined where it is ready. */
  readonly notReady: string | undefined;
  /** Undefined where nothing is archived. */
  readonly archive:
    | {
        readonly url: string;
        readonly archivedOffset: number | undefined;
        readonly lagBytes: number | undefined;
        readonly isUp: boolean;
        readonly text: string;
      }
    | undefined;
  /** The RESP port that it serves; undefined where none was asked for. */
  readonly port: number | undefined;
}

/** A primary that is being followed, until it is stopped. Iterating gives what happens; to leave the iteration stops nothing. */
export interface Following extends AsyncIterable<FollowEvent>, AsyncDisposable {
  /**
   * Resolves once it was stopped and all is closed. @throws ReplicaError where going on couldn't help: a wrong setting, a
   * directory in use, a disk that is lost. What an attempt to reach the primary can solve is tried again, and no error.
   */
  readonly ended: Promise<void>;
  /** How it stands; undefined before the data directory is open. After the end, how it stood then. */
  status(): FollowStatus | undefined;
  /** Writes out and syncs what was received, closes everything, and resolves then. @throws ReplicaError as `ended`. */
  stop(): Promise<void>;
}
