import { invariant, ReplicaError } from "../base/errors.ts";
import { logger } from "../base/logger.ts";
import type { Offset, Position, ReplicationId } from "../base/history.ts";
import type { RdbSummary } from "../rdb/checker.ts";
import { replicationAux } from "../rdb/header.ts";
import type { BulkForm } from "../resp/bulk-reader.ts";
import { selectCommand } from "../resp/encode.ts";
import type { FullSyncGrant } from "../session/state.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import { type Disk, PIECE_BYTES } from "../store/disk/disk.ts";
import type { KeptSnapshot, Segment } from "../store/ledger/ledger.ts";
import type { StreamLog } from "../store/generation/stream-log.ts";
import { PayloadFiles } from "../store/disk/payload-file.ts";
import type { Io } from "../store/disk/payload-writer.ts";
import { SnapshotWriter } from "../store/generation/snapshot.ts";
import { Ack } from "./ack.ts";
import type { Clock } from "../base/clock.ts";
import type { Keeper } from "./driver.ts";
import { hex64 } from "../base/hex64.ts";

export interface GenerationKeeperOptions {
  readonly io: Io | "auto";
  readonly rdbSyncBytes: number;
  /** So much of a snapshot, or of the stream behind it, may wait in memory; and of the log. */
  readonly maxQueuedBytes: number;
  readonly maxLogQueuedBytes: number;
  readonly fsync: "always" | "everysec" | "no";
  readonly ack: "written" | "durable";
  /** The primary's name as it is now, for the database. */
  readonly primaryName: () => string;
}

export interface GenerationKeeperEvents {
  /** Sends REPLCONF ACK. */
  acknowledge(written: Offset, durable: Offset): void;
  synced(payloadBytes: number): void;
  room(): void;
  received(phase: "snapshot" | "stream", bytes: number): void;
  failed(error: ReplicaError): void;
  /** More of the log is written, or another one has taken its place. */
  moved(): void;
  /** Who reads the log can't just go on: it is cut, or another history, or of another name from here on. */
  broke(why: string): void;
}

/** A generation while its snapshot comes in. */
interface Receiving {
  readonly id: number;
  readonly grant: FullSyncGrant;
  readonly writer: SnapshotWriter;
  /** The log behind it, from the end of the payload on. */
  log: Promise<StreamLog> | undefined;
  /** Its snapshot is verified, durable and named: it becomes current, whatever the link does. */
  whole: boolean;
}

/** A generation whose snapshot is there; it has no log yet. */
export interface Fetched {
  readonly id: number;
  readonly grant: FullSyncGrant;
  readonly rdb: RdbSummary;
  /** When the primary granted it, in milliseconds since 1970. */
  readonly grantedAtMs: number;
}

/** How long what is followed may take to come to where a snapshot over another link was made. */
const REACH_LIMIT_MS = 60_000;
const REACH_EVERY_MS = 20;

function outside(why: string): ReplicaError {
  return new ReplicaError("PRIMARY_REFUSED", {
    message: `the snapshot can't take the place of what is followed: ${why}`,
  });
}

function keptSnapshot(
  rdb: RdbSummary,
  replid: ReplicationId | undefined,
  baseOffset: Offset,
): KeptSnapshot {
  const { streamDb } = replicationAux(rdb.header);
  return {
    replid,
    baseOffset,
    streamDb,
    rdbBytes: rdb.bytes,
    rdbCrc64: hex64(rdb.crc64),
    rdbChecked: rdb.checked,
    logHeaderBytes: selectCommand(streamDb).length,
  };
}

/** Keeps what a primary sends in a data directory: snapshots as generations, the stream in their logs. */
export class GenerationKeeper implements Keeper {
  readonly #directory: DataDirectory;
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #files: PayloadFiles;
  readonly #options: GenerationKeeperOptions;
  readonly #events: GenerationKeeperEvents;
  readonly #ack: Ack;
  #log: StreamLog | undefined;
  #receiving: Receiving | undefined;
  /** Another log is just taking the place of this one: the link is paused. */
  #switching = false;
  /** The id under which the primary said meanwhile that it continues. */
  #continuedAs: ReplicationId | undefined;
  /** Stream bytes that came before the new generation's log was open. */
  #early: Uint8Array[] = [];
  #earlyBytes = 0;
  #opening: AbortController | undefined;
  /** What is being given up, so that a new attempt or the end waits for it. */
  #givingUp: Promise<unknown> = Promise.resolve();
  #isClosing = false;
  #sealReason = "";

  constructor(
    directory: DataDirectory,
    disk: Disk,
    clock: Clock,
    options: GenerationKeeperOptions,
    events: GenerationKeeperEvents,
  ) {
    this.#directory = directory;
    this.#disk = disk;
    this.#clock = clock;
    this.#files = new PayloadFiles(disk, clock, options.io);
    this.#options = options;
    this.#events = events;
    this.#ack = new Ack({
      ack: options.ack,
      log: () => (directory.replid === undefined ? undefined : this.#log),
      send: (written, durable) => events.acknowledge(written, durable),
    });
  }

  /** The log that is followed; its cursors are what ACK and INFO tell. */
  get log(): StreamLog | undefined {
    return this.#log;
  }

  /**
   * Where to resume: everything that was received is written first.
   * @throws ReplicaError DISK_FULL, DISK_FAILED where the log can't be opened.
   */
  async resume(): Promise<Position | undefined> {
    await this.#givingUp;
    await this.#log?.flushed();
    // It may have failed meanwhile: its last sync may still commit a mark, so nothing is cut before.
    await this.#givingUp;
    if (this.#isClosing) return undefined;
    // Before the primary is asked for anything: each full resync that can't be kept costs it a fork.
    this.#directory.refuseLost();
    this.#log ??= await this.#directory.openLog(this.#logCallbacks());
    if (this.#isClosing) await this.#log?.abandon();
    return this.#log === undefined ? undefined : this.#directory.position(this.#log);
  }

  #logCallbacks() {
    return {
      fsync: this.#options.fsync,
      maxQueuedBytes: this.#options.maxLogQueuedBytes,
      onMoved: () => this.#onMoved(),
      onFailed: (error: ReplicaError, failed: StreamLog) => this.#onLogFailed(error, failed),
    };
  }

  /** After a failed write or sync only what a mark covers is trusted; the next attempt reopens it. */
  #onLogFailed(error: ReplicaError, failed: StreamLog): void {
    if (failed !== this.#log)
      return logger.warn(`of a log that is no longer followed: ${error.message}`);
    this.#log = undefined;
    this.#events.broke("the log failed, and is cut back");
    this.#ack.forget();
    this.#directory.distrustLog();
    const cut = failed.abandon().then(() => this.#directory.cutDistrusted());
    this.#givingUp = Promise.all([this.#givingUp, cut]);
    this.#events.failed(error);
  }

  #onMoved(): void {
    this.#events.room();
    this.#events.moved();
    this.#ack.moved();
  }

  acknowledge(offset: Offset): void {
    this.#ack.ask(offset);
  }

  /** Once a second: the sync of `--fsync everysec`, and the ACK that follows it. */
  tick(): void {
    this.#log?.tick();
  }

  async openSnapshot(grant: FullSyncGrant, form: BulkForm): Promise<string> {
    invariant(this.#receiving === undefined, "one snapshot at a time");
    const opening = new AbortController();
    this.#opening = opening;
    await this.#givingUp;
    const totalBytes = form.kind === "length" ? form.bytes : undefined;
    this.#directory.refuseTooLarge(totalBytes);
    const { id, dir } = await this.#directory.begin(this.#options.primaryName());
    try {
      const file = await this.#files.open(dir, opening.signal);
      const writer = new SnapshotWriter(this.#disk, file, {
        syncBytes: this.#options.rdbSyncBytes,
        maxQueuedBytes: this.#options.maxQueuedBytes,
        onSynced: (bytes) => this.#events.synced(bytes),
        onRoom: () => this.#events.room(),
        onFailed: (error) => this.#events.failed(error),
      });
      if (opening.signal.aborted) {
        writer.abandon();
        throw new ReplicaError("STOPPED", { message: "the sync was given up" });
      }
      this.#receiving = { id, grant, writer, log: undefined, whole: false };
      return file.path;
    } catch (error) {
      this.#directory.discard(id);
      throw error;
    }
  }

  payload(bytes: Uint8Array): void {
    this.#events.received("snapshot", bytes.length);
    this.#receiving?.writer.write(bytes);
  }

  get congested(): boolean {
    const writer = this.#receiving?.writer.congested ?? false;
    if (this.#switching) return true;
    const earlyBytes = this.#earlyBytes + this.#early.length * PIECE_BYTES;
    return writer || (this.#log?.congested ?? false) || earlyBytes > this.#options.maxQueuedBytes;
  }

  finishSnapshot(): Promise<{ replid: ReplicationId | undefined; receivedOffset: Offset }> {
    const finishing = this.#finish(this.#receiving);
    // A new attempt, and the end, wait for what is under way, given up or not.
    const over = finishing.catch(() => undefined);
    this.#givingUp = Promise.all([this.#givingUp, over]);
    return finishing;
  }

  async #finish(
    receiving: Receiving | undefined,
  ): Promise<{ replid: ReplicationId | undefined; receivedOffset: Offset }> {
    const refuseIfGivenUp = () => {
      if (receiving !== undefined && this.#receiving === receiving) return;
      throw new ReplicaError("STOPPED", { message: "the sync was given up" });
    };
    refuseIfGivenUp();
    const { id, writer, grant } = receiving!;
    const rdb = await writer.finish(this.#directory.basePath(id));
    refuseIfGivenUp();
    const aux = replicationAux(rdb.header);
    // SYNC names no offset; the snapshot's own aux fields may.
    const position = grant.by === "psync" ? grant.position : aux.position;
    const baseOffset = position?.offset ?? 0;
    const header = selectCommand(aux.streamDb);
    const creating = this.#directory.createLog(id, baseOffset, header, this.#logCallbacks());
    receiving!.log = creating;
    const opened = await creating;
    refuseIfGivenUp();
    // From here on it is whole and durable: what ends the attempt no longer ends it.
    receiving!.whole = true;
    try {
      const kept = keptSnapshot(rdb, position?.replid, baseOffset);
      await this.#directory.promote(id, kept, this.#sealReason);
    } catch (error) {
      // The attempt may be over by now, so nobody else would.
      this.#giveUp(receiving!);
      throw error;
    }
    this.#events.broke("a full resync has taken the place of what it read");
    await this.#follow(opened, baseOffset);
    return { replid: position?.replid, receivedOffset: opened.receivedOffset };
  }

  /** The log of a generation that has become current takes the place of the one before. */
  async #follow(opened: StreamLog, durableOffset: Offset): Promise<void> {
    const before = this.#log;
    this.#receiving = undefined;
    this.#log = opened;
    this.#ack.begin(durableOffset);
    opened.beginMarks(durableOffset);
    this.#appendEarly();
    this.#events.moved();
    await before?.close();
  }

  #appendEarly(): void {
    for (const bytes of this.#early) this.#log?.append(bytes);
    this.#early = [];
    this.#earlyBytes = 0;
  }

  /**
   * Makes current a generation whose snapshot came over another link, while this one is followed: its
   * log is written from the log that is followed, then takes that one's place.
   * @param fetched its snapshot, verified and durable under its name, and when it was granted.
   * @throws ReplicaError where it can't be: nothing has changed then, and the generation is to be discarded.
   */
  async adopt(fetched: Fetched, sealReason: string, signal: AbortSignal): Promise<void> {
    const { id, grant, rdb } = fetched;
    const aux = replicationAux(rdb.header);
    const position = grant.by === "psync" ? grant.position : aux.position;
    const header = selectCommand(aux.streamDb);
    let next: StreamLog | undefined;
    let failure: ReplicaError | undefined;
    try {
      if (position === undefined) throw outside("the primary names no offset for it");
      const from = this.#log;
      const check = () => {
        if (signal.aborted) throw new ReplicaError("STOPPED", { message: "it was given up" });
        if (failure !== undefined) throw failure;
        const isFollowed = from !== undefined && this.#log === from;
        if (!isFollowed || this.#receiving !== undefined) throw outside("another log is followed");
        if (this.#directory.historiesFrom(position) === undefined)
          throw outside(`its offset ${position.offset} is none of the history that is kept`);
      };
      await this.#reach(position.offset, check, signal);
      next = await this.#directory.createLog(id, position.offset, header, {
        ...this.#logCallbacks(),
        onFailed: (error, failed) => {
          if (failed === this.#log) this.#onLogFailed(error, failed);
          else failure = error;
        },
      });
      // What takes long goes before the link is paused.
      await next.copyFrom(from!, check);
      await this.#directory.syncLog(id);
      const switching = this.#switch(from!, next, check, async (durableOffset, segment) => {
        const kept = keptSnapshot(rdb, position.replid, position.offset);
        const replicationIds = this.#directory.historiesFrom(position)!;
        const { grantedAtMs } = fetched;
        const continued = { replicationIds, grantedAtMs, durableOffset, segment };
        await this.#directory.promote(id, kept, sealReason, continued);
      });
      this.#givingUp = Promise.all([this.#givingUp, switching.catch(() => undefined)]);
      await switching;
    } catch (error) {
      // Once it is followed, no failure takes it away.
      if (next !== this.#log) await next?.abandon();
      throw error;
    }
  }

  /** Waits until the log that is followed has come to the snapshot's offset. */
  async #reach(offset: Offset, check: () => void, signal: AbortSignal): Promise<void> {
    const untilMs = this.#clock.monotonicMs() + REACH_LIMIT_MS;
    for (check(); this.#log!.writtenOffset < offset; check()) {
      if (this.#clock.monotonicMs() > untilMs) {
        throw outside(`what is followed has not come to its offset ${offset}`);
      }
      await this.#clock.sleep(REACH_EVERY_MS, signal);
    }
  }

  /** The moment in which nothing comes in: all that came is in both logs, and durable. */
  async #switch(
    from: StreamLog,
    next: StreamLog,
    check: () => void,
    promote: (durableOffset: Offset, segment: Segment) => Promise<void>,
  ): Promise<void> {
    this.#switching = true;
    this.#events.room();
    try {
      await from.flushed();
      await next.copyFrom(from, check);
      await from.sync();
      // A sync that failed has taken the log away.
      check();
      invariant(from.durableOffset === next.writtenOffset, "both logs end at the same offset");
      await promote(next.writtenOffset, next.segment);
      await this.#follow(next, next.writtenOffset);
    } finally {
      this.#switching = false;
      const replid = this.#continuedAs;
      this.#continuedAs = undefined;
      try {
        this.continued(replid);
      } finally {
        this.#appendEarly();
        this.#events.room();
      }
    }
  }

  discardSnapshot(): void {
    this.#opening?.abort();
    this.#opening = undefined;
    const receiving = this.#receiving;
    if (receiving !== undefined && !receiving.whole) this.#giveUp(receiving);
  }

  #giveUp(receiving: Receiving): void {
    this.#early = [];
    this.#earlyBytes = 0;
    this.#receiving = undefined;
    receiving.writer.abandon();
    const closing = receiving.log?.then(
      (opened) => opened.abandon(),
      () => undefined,
    );
    this.#givingUp = Promise.all([this.#givingUp, closing]);
    this.#directory.discard(receiving.id);
  }

  /** Why the generation before is sealed once a new one is whole. */
  set sealReason(reason: string) {
    this.#sealReason = reason;
  }

  continued(replid: ReplicationId | undefined): void {
    if (this.#switching) {
      this.#continuedAs = replid;
      return;
    }
    if (replid === undefined || this.#log === undefined) return;
    const isNew = replid !== this.#directory.replid;
    this.#directory.continueAs(replid, this.#log.receivedOffset);
    if (isNew) this.#events.broke("the primary continues under a new id, which it is to ask for");
  }

  stream(bytes: Uint8Array): void {
    this.#events.received("stream", bytes.length);
    if (this.#receiving === undefined && !this.#switching) {
      this.#log?.append(bytes);
      return;
    }
    this.#early.push(bytes);
    this.#earlyBytes += bytes.length;
  }

  /** Writes, syncs, marks and acknowledges all that was received. */
  async settle(): Promise<void> {
    const settling = this.#log;
    await settling?.flushed();
    await settling?.sync();
    if (settling === this.#log) this.#ack.send();
  }

  /** The end: what was received is written, synced and marked. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.discardSnapshot();
    await this.#givingUp;
    const closing = this.#log;
    if (closing === undefined) return;
    await closing.close();
    // Its failure comes by a callback, which gives it up.
    if (this.#log === closing) this.#directory.stopped(closing);
  }
}
