import type { ErrorCode } from "../base/errors.ts";
import type { Clock } from "../base/clock.ts";
import { formatAge } from "../base/quantity.ts";
import type { Offset, ReplicationId } from "../base/history.ts";
import type { Settings } from "../config/settings.ts";
import type { State } from "../session/state.ts";
import { fileByteOf } from "../store/generation/layout.ts";
import type { Keeping, Smallness } from "../store/keep/keeping.ts";
import type { Generation } from "../store/ledger/ledger.ts";
import { FULL_REASONS, type FullReason } from "../upstream/link/full-reason.ts";
import { type ArchiverView, ArchiveReport, type ArchiveStatus } from "./archive-status.ts";
import { Freshness } from "./freshness.ts";
import { Keyspace, type KnownKeyspace } from "./keyspace.ts";
import { type SupplyStatus, supplyOf, whyNotReady } from "./readiness.ts";
import type { BytesPerSecond } from "./pace.ts";
import { Past } from "./past.ts";
import type { Replica } from "./replica.ts";
import { type RelayStatus, relayStatus } from "./relay-status.ts";
import { progressOf, type TransferProgress } from "./transfer-progress.ts";
import { type RoomStatus, roomStatus } from "./room-status.ts";

/** A state of the link, by Redis's name ("replication.c", REPL_STATE_*). */
export type LinkState = State["at"];

export interface PrimaryStatus {
  /** A URL without its password. */
  readonly name: string;
  /** As INFO and ROLE show it: a socket's path and port 0; "" and 0 until Sentinel names a primary. */
  readonly host: string;
  readonly port: number;
}

export interface LinkStatus {
  readonly state: LinkState;
  /** Undefined unless a snapshot is arriving over this link. */
  readonly transfer: TransferProgress | undefined;
  /** How long the primary has been preparing a full resync: it was granted, and nothing of it has come. Else undefined. */
  readonly preparingSeconds: number | undefined;
  /** Milliseconds since a primary was last heard, or since the start; not anew with each attempt. */
  readonly silentMs: number;
  /** Seconds since the link was last up; undefined while it is, and before it ever was. */
  readonly downSeconds: number | undefined;
  /** The same for monitoring: 0 while it is up, and since the start where it never was. */
  readonly downForSeconds: number;
}

/** How far the stream has come, as replication offsets: durable ≤ written ≤ received. */
export interface Cursors {
  readonly received: Offset;
  readonly written: Offset;
  readonly durable: Offset;
  /** Length of the log's file, including its first SELECT. */
  readonly logBytes: number;
}

/** The history that replicas of this one are fed. */
export interface HistoryStatus {
  readonly replid: ReplicationId | undefined;
  /** The history before it; undefined where there was none. */
  readonly secondReplid: ReplicationId | undefined;
  /** The last offset that belongs to the second history. */
  readonly secondEndOffset: Offset;
  /** The last offset that may be sent. */
  readonly endOffset: Offset;
  /** Whether a log is open to send from. */
  readonly isOpen: boolean;
}

export type GenerationStatus = Pick<
  Generation,
  "id" | "currentAtMs" | "baseOffset" | "rdbBytes" | "rdbCrc64"
>;

/** Counts since the start. */
export interface SyncStatus {
  readonly full: number;
  readonly partial: number;
  readonly fullByReason: Readonly<Record<FullReason, number>>;
}

export interface BreakStatus {
  readonly code: ErrorCode;
  readonly message: string;
  /** Figures, and what they say; empty where there is nothing to add. */
  readonly cause: string;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

/** New snapshots over a second link. */
export interface SnapshotStatus {
  /** How long the one under way has been running; undefined where none is. */
  readonly runningSeconds: number | undefined;
  readonly transfer: TransferProgress | undefined;
  /** How long the primary has been preparing it: it was granted, and nothing of it has come. Else undefined. */
  readonly preparingSeconds: number | undefined;
  /** How the last one ended; undefined before there was one. */
  readonly last: { readonly error: string | undefined; readonly seconds: number } | undefined;
  readonly counts: { readonly ok: number; readonly failed: number };
}

/** The settings that what is reported depends on. */
type ReportedSettings = Pick<Settings, "fsync" | "readyArchiveLagMs">;

/**
 * The one source of everything that a replica reports: on its port, over HTTP, and to the service manager.
 * Read-only. Each property is looked up when it is read, and what it returns is a plain value that does not
 * change afterwards.
 */
export class ReplicaStatus {
  /** Milliseconds since 1970. */
  readonly startedAtMs: number;
  /** The last hours, and what can be restored. */
  readonly past: Past;
  readonly #startedMs: number;
  readonly #replica: Replica;
  readonly #clock: Clock;
  readonly #settings: ReportedSettings;
  readonly #freshness: Freshness;
  readonly #keyspace: Keyspace;
  readonly #archive: ArchiveReport | undefined;

  /** @param archiver what carries the data directory to an archive; undefined where nothing does. */
  constructor(replica: Replica, clock: Clock, settings: ReportedSettings, archiver?: ArchiverView) {
    this.#replica = replica;
    this.#clock = clock;
    this.#settings = settings;
    this.#freshness = new Freshness(replica, clock);
    this.past = new Past(replica, clock);
    this.#keyspace = new Keyspace(replica);
    this.#archive = archiver && new ArchiveReport(archiver, clock);
    this.startedAtMs = clock.now();
    this.#startedMs = clock.monotonicMs();
  }

  /** As Redis makes it: 40 hex digits, another for each process. */
  get runId(): string {
    return this.#replica.runId;
  }

  /**
   * The run ids of the processes above this one, nearest first, as far as they are known: those that it follows, or
   * would, if the nearest could serve.
   */
  get upstreamRunIds(): readonly string[] {
    return this.#replica.supply.runIds;
  }

  /** Whole seconds by a monotonic clock. */
  get uptimeSeconds(): number {
    return Math.floor((this.#clock.monotonicMs() - this.#startedMs) / 1000);
  }

  get directoryPath(): string {
    return this.#replica.directory.path;
  }

  /** False after REPLICAOF NO ONE, and with --offline. */
  get isFollowing(): boolean {
    return this.#replica.isFollowing;
  }

  /** Whether it was started with --offline and has followed no primary since. */
  get isOffline(): boolean {
    return this.#replica.isOffline;
  }

  /** The primary that is followed, or was last. */
  get primary(): PrimaryStatus {
    const { name, hostAndPort } = this.#replica.primary;
    return { name, host: hostAndPort[0], port: hostAndPort[1] };
  }

  get link(): LinkStatus {
    const { state, silentMs, links } = this.#replica;
    const { downSeconds } = links;
    const downForSeconds = this.#freshness.linkDownSeconds;
    const transfer = progressOf(state, () => this.#replica.upkeep.expectedResyncBytes());
    const { preparingSeconds } = this.#replica.resyncs;
    const since = { preparingSeconds, silentMs, downSeconds, downForSeconds };
    return { state: state.at, transfer, ...since };
  }

  /** Whether the primary has data to pass on, while its link is up. */
  get supply(): SupplyStatus {
    return supplyOf(this.#replica);
  }

  /** The newest moment that can be restored: milliseconds since 1970; undefined where nothing is kept yet. */
  get newestRestorableMs(): number | undefined {
    return this.#freshness.newestMs;
  }

  /** The oldest one, as `replica restore --at` takes it. @throws ReplicaError of the database. */
  get oldestRestorableMs(): number | undefined {
    return this.#freshness.oldestMs;
  }

  /** How long ago the newest moment that can be restored is; undefined where nothing is kept yet. */
  get staleSeconds(): number | undefined {
    return this.#freshness.staleSeconds;
  }

  /**
   * How old the copy is, in words: `stale for 28 min`. Undefined while data can come, and where nothing is kept yet.
   */
  get staleFor(): string | undefined {
    const { staleSeconds } = this;
    const isFed = this.link.state === "connected" && this.supply.trouble === undefined;
    return isFed || staleSeconds === undefined ? undefined : `stale for ${formatAge(staleSeconds)}`;
  }

  /**
   * The cursors of the log that is followed, or of what is served without a primary. While no log can be
   * opened, written and durable are what the last mark promises. All are 0 where nothing is kept.
   */
  get cursors(): Cursors {
    const { log, endedStream: ended, directory } = this.#replica;
    const promised = directory.durableOffset ?? 0;
    const written = ended?.writtenOffset ?? log?.writtenOffset ?? promised;
    const generation = ended?.generation ?? directory.current;
    const isFollowed = ended === undefined && log !== undefined;
    return {
      received: this.#receivedOffset ?? written,
      written,
      // An ended stream consists of bytes that were on the disk before it was served.
      durable: Math.min(log?.durableOffset ?? ended?.writtenOffset ?? promised, written),
      logBytes: isFollowed
        ? log.fileBytes
        : generation === undefined
          ? 0
          : fileByteOf(generation, written),
    };
  }

  get #receivedOffset(): Offset | undefined {
    const { state, log, endedStream } = this.#replica;
    if (endedStream !== undefined) return undefined;
    return state.at === "connected" ? state.receivedOffset : log?.receivedOffset;
  }

  get history(): HistoryStatus {
    const { endedStream: ended, directory, log } = this.#replica;
    const isOpen = log !== undefined || ended !== undefined;
    if (ended !== undefined) {
      const { replid, second, writtenOffset, endOffset } = ended;
      return { replid, secondReplid: second, secondEndOffset: writtenOffset, endOffset, isOpen };
    }
    const ids = directory.replicationIds;
    return {
      replid: ids.at(-1)?.replid,
      secondReplid: ids.at(-2)?.replid,
      secondEndOffset: ids.at(-1)?.fromOffset ?? 0,
      endOffset: this.cursors.written,
      isOpen,
    };
  }

  /** The last offset in the files that may be sent; undefined where nothing can be served yet. */
  get servedOffset(): Offset | undefined {
    return this.#replica.stream?.writtenOffset;
  }

  /** The generation whose log ends what is served: the current one, unless --offline serves an older one. */
  get generation(): GenerationStatus | undefined {
    return this.#replica.endedStream?.generation ?? this.currentGeneration;
  }

  /** How many keys there are, as far as others say so; undefined where nobody does. */
  get keyspace(): KnownKeyspace | undefined {
    return this.#keyspace.known;
  }

  get currentGeneration(): GenerationStatus | undefined {
    return this.#replica.directory.current;
  }

  /** How many generations are in each state. @throws ReplicaError of the database. */
  generationsByState(): readonly (readonly [state: string, count: number])[] {
    return this.#replica.directory.countByState();
  }

  /**
   * Bytes on disk of all snapshots: the kept ones, and as much of new ones as has come. They are taken and given
   * back with each new generation, so they are no trend of the free space. @throws ReplicaError of the database.
   */
  snapshotsOnDiskBytes(): number {
    const { state, renewal, directory } = this.#replica;
    const arriving = [state, renewal.state].map((one) =>
      one.at === "transfer" ? one.readBytes : 0,
    );
    return arriving.reduce((sum, bytes) => sum + bytes, directory.holdings.snapshotBytes);
  }

  /** Bytes on disk of all logs: that of the current generation, and those of the kept ones. @throws ReplicaError of the database. */
  logsOnDiskBytes(): number {
    return this.cursors.logBytes + this.#replica.directory.keeping.sealedLogBytes();
  }

  /** Free bytes on the data directory's file system. @throws ReplicaError DISK_FAILED. */
  freeBytes(): number {
    return this.#replica.directory.freeBytes;
  }

  /** The room on the disk, as of the last look. */
  get room(): RoomStatus {
    return roomStatus(this.#replica.upkeep);
  }

  /** Set while the newest snapshot has less than half of what an earlier one had, and nobody said that it is well. */
  get shrunken(): Smallness | undefined {
    return this.#replica.directory.keeping.smallness;
  }

  /** See `Keeping.counts`. */
  get removedGenerations(): Readonly<Keeping["counts"]> {
    return { ...this.#replica.directory.keeping.counts };
  }

  /** Over the last seconds, snapshot and stream together. */
  get bytesPerSecond(): BytesPerSecond {
    return this.#replica.pace.bytesPerSecond;
  }

  /** Bytes from the primary since the start. */
  get receivedBytes(): { readonly snapshot: number; readonly stream: number } {
    return { ...this.#replica.receivedBytes };
  }

  get syncs(): SyncStatus {
    const { full, partial, fullBy } = this.#replica.resyncs;
    const byReason = FULL_REASONS.map((reason) => [reason, fullBy.get(reason) ?? 0]);
    return { full, partial, fullByReason: Object.fromEntries(byReason) };
  }

  /** Outages since the start, by the code of their first error: however many attempts one took, it is one. */
  get breaks(): Readonly<Partial<Record<ErrorCode, number>>> {
    return Object.fromEntries(this.#replica.links.counts);
  }

  /** Attempts since the start that failed before their link was up, by the error's code. */
  get failedAttempts(): Readonly<Partial<Record<ErrorCode, number>>> {
    return Object.fromEntries(this.#replica.links.failedAttempts);
  }

  /** The last failure. It stays when all is well again. */
  get lastBreak(): BreakStatus | undefined {
    const last = this.#replica.links.last;
    if (last === undefined) return undefined;
    const { error, cause, atMs } = last;
    return { code: error.code, message: error.message, cause, atMs };
  }

  /** The last time since the start that the history of quite another primary came; milliseconds since 1970. */
  get otherHistory(): { readonly text: string; readonly atMs: number } | undefined {
    return this.#replica.resyncs.lastOther;
  }

  get snapshot(): SnapshotStatus {
    const { runningSeconds, preparingSeconds, state, last, counts } = this.#replica.renewal;
    return {
      runningSeconds,
      preparingSeconds,
      transfer: progressOf(state, () => this.#replica.upkeep.expectedRenewalBytes()),
      last: last && { error: last.error?.message, seconds: last.seconds },
      counts: { ...counts },
    };
  }

  get relay(): RelayStatus {
    return relayStatus(this.#replica.relay);
  }

  /** What the archive has, as of the last second; undefined where nothing is archived. */
  get archive(): ArchiveStatus | undefined {
    return this.#archive?.status;
  }

  /** How long the oldest byte that is not durable (`--fsync no`: not written) has been here; 0 where all are. */
  get durableAgeSeconds(): number {
    return this.#replica.pace.durableAgeSeconds;
  }

  /**
   * Why the replica counts as not ready: its link is not up, or the primary has no data to pass on, or a received
   * byte has stayed unsynced (`--fsync no`: unwritten) for too long, or the disk is about to be full, or the archive is
   * behind by more than --ready-archive-lag; with --offline, nothing is served yet. Undefined where it is ready.
   * @param readyLagMs how long a received byte may stay unsynced; milliseconds.
   */
  whyNotReady(readyLagMs: number): string | undefined {
    const { fsync, readyArchiveLagMs } = this.#settings;
    const why = whyNotReady(this.#replica, fsync, readyLagMs);
    if (why !== undefined || readyArchiveLagMs === undefined) return why;
    return this.#archive?.whyNotReady(readyArchiveLagMs);
  }
}
