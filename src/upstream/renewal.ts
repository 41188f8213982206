import type { Settings } from "../config/settings.ts";
import { invariant, ReplicaError } from "../base/errors.ts";
import type { Offset } from "../base/history.ts";
import { logger } from "../base/logger.ts";
import { describeTarget, type PrimaryTarget } from "../config/primary-url.ts";
import { formatBytes } from "../base/quantity.ts";
import type { RdbSummary } from "../rdb/checker.ts";
import type { FullSyncGrant, State } from "../session/state.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { SnapshotWriter } from "../store/generation/snapshot.ts";
import type { Disk } from "../store/disk/disk.ts";
import type { Clock } from "../base/clock.ts";
import type { AnnouncedAddress } from "./driver-options.ts";
import { SnapshotFetch } from "./fetch.ts";
import type { Driver } from "./driver.ts";
import type { GrantedResync } from "./driver-options.ts";
import type { GenerationKeeper } from "./keeper.ts";
import type { Locator } from "./link/locator.ts";
import { FileOutlet } from "./outlet.ts";
import { tellArriving } from "./receiving.ts";
import { RenewalSchedule } from "./renewal-schedule.ts";
import { Oversize } from "./room/oversize.ts";
import type { Pressure } from "./room/pressure.ts";
import { refuseSnapshotWithoutRoom } from "./room/refusal.ts";
import type { RoomWatch, Took } from "./room/watch.ts";

export interface RenewalOptions {
  readonly directory: DataDirectory;
  readonly keeper: GenerationKeeper;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly settings: Settings;
  /** As on the first link: by it Sentinel recognises the replica that the second link belongs to. */
  readonly announced: AnnouncedAddress | undefined;
  /** The link that is followed. */
  readonly link: Pick<Driver, "connectedTo" | "login">;
  readonly room: RoomWatch;
  readonly pressure: Pick<Pressure, "makeRoom">;
  /** Of the shards of a cluster, few take a snapshot at a time. */
  readonly primary: Pick<Locator, "snapshotTurn" | "hasTurns">;
}

/** The shards of a cluster begin together: by this share of `--snapshot-every` each is due earlier, by chance. */
const CLUSTER_SPREAD = 1 / 4;

/** A long one counts less with each that comes after it. */
const FADES = 0.9;

/** The outcome of a new generation. */
export interface RenewalOutcome {
  /** Undefined where it is current. */
  readonly error: ReplicaError | undefined;
  readonly seconds: number;
}

/**
 * Takes new generations without losing the stream: the snapshot comes over a second link while the first
 * one keeps following; then the new generation replaces the current one. One at a time.
 */
export class Renewal {
  readonly #options: RenewalOptions;
  #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #beganMs = 0;
  #fetching: SnapshotFetch | undefined;
  #last: RenewalOutcome | undefined;
  #took: Took | undefined;
  #failed: { readonly generation: number | undefined; readonly message: string } | undefined;
  readonly #schedule: RenewalSchedule;
  readonly #oversize: Oversize;

  constructor(options: RenewalOptions) {
    this.#options = options;
    const { clock, settings, primary } = options;
    this.#schedule = new RenewalSchedule(clock, settings, primary.hasTurns ? CLUSTER_SPREAD : 0);
    this.#oversize = new Oversize(options);
  }

  /** How long the one under way has been running, in seconds; undefined where none is. */
  get runningSeconds(): number | undefined {
    if (this.#running === undefined) return undefined;
    return (this.#options.clock.monotonicMs() - this.#beganMs) / 1000;
  }

  /** Resolves once none is under way. */
  get ended(): Promise<void> {
    return this.#running ?? Promise.resolve();
  }

  /** Where the session of the second link stands. */
  get state(): State {
    return this.#fetching?.state ?? { at: "none" };
  }

  /** The header of the snapshot that is coming in, once it has come whole. */
  get header(): SnapshotFetch["header"] {
    return this.#fetching?.header;
  }

  /** How long the primary has been preparing the snapshot, which it has granted; undefined while it isn't. */
  get preparingSeconds(): number | undefined {
    if (this.state.at !== "receive-bulk-header" || this.#fetching === undefined) return undefined;
    // The wall clock may have been set meanwhile.
    return Math.max(0, (this.#options.clock.now() - this.#fetching.grantedAtMs) / 1000);
  }

  /** How many became current, and how many failed, since the start. */
  readonly counts = { ok: 0, failed: 0 };

  /** The outcome of the last one; undefined before the first. */
  get last(): RenewalOutcome | undefined {
    return this.#last;
  }

  /** How long they take that become current: the longest of late; undefined before the first. */
  get took(): Took | undefined {
    return this.#took;
  }

  /** How large the next one is at the least, as one showed that didn't fit; undefined where none did, or for long. */
  get lackedBytes(): number | undefined {
    return this.#oversize.bytes;
  }

  /** Why the current generation could not be replaced, at the last try; undefined where it wasn't tried, or is new. */
  get failure(): string | undefined {
    const isOfCurrent = this.#failed?.generation === this.#options.directory.current?.id;
    return isOfCurrent ? this.#failed?.message : undefined;
  }

  /**
   * Begins one, without waiting for it.
   * @param by what asks for it, for the log: `BGSAVE`.
   * @throws ReplicaError NOT_FOLLOWING while the link is down, PRIMARY_BUSY where one is under way,
   * DISK_FULL where it would leave less than `--min-free`, and frees less than it takes.
   */
  begin(by: string): void {
    if (this.#running !== undefined) {
      throw new ReplicaError("PRIMARY_BUSY", { message: "a new snapshot is already under way" });
    }
    this.#followed();
    const { room } = this.#options;
    const look = room.look();
    refuseSnapshotWithoutRoom(look, room.next, room.reserveBytes(look));
    this.#beganMs = this.#options.clock.monotonicMs();
    this.#running = this.#run(by, this.#stopping.signal).finally(() => {
      this.#running = undefined;
      this.#fetching = undefined;
    });
  }

  /** @throws ReplicaError NOT_FOLLOWING while the link is down. */
  #followed(): PrimaryTarget {
    const target = this.#options.link.connectedTo;
    if (target !== undefined) return target;
    throw new ReplicaError("NOT_FOLLOWING", {
      message: "no new snapshot while no primary is followed: wait until the link is up",
    });
  }

  async #run(by: string, signal: AbortSignal): Promise<void> {
    const { clock, directory } = this.#options;
    const seconds = () => (clock.monotonicMs() - this.#beganMs) / 1000;
    const before = directory.current?.id;
    const turn = this.#options.primary.snapshotTurn(signal);
    const free = turn && (await turn);
    if (turn !== undefined) this.#beganMs = clock.monotonicMs();
    try {
      signal.throwIfAborted();
      // Another one than when it was asked for, where a failover came while it waited.
      const target = this.#followed();
      logger.info(
        `new snapshot, asked for by ${by}: over a second link to ${describeTarget(target)}`,
      );
      // Old generations give way before the primary is asked for anything.
      await this.#options.pressure.makeRoom(
        this.#options.room.neededBytes,
        "a new snapshot",
        false,
      );
      signal.throwIfAborted();
      const { bytes } = await this.#renew(target, by, signal);
      this.#last = { error: undefined, seconds: seconds() };
      this.counts.ok++;
      this.#schedule.succeeded();
      this.#oversize.succeeded();
      const { id, baseOffset } = directory.current!;
      const rate = bytes / Math.max(seconds(), 0.001);
      const what = `generation ${id} replaces ${nameOf(before)}: ${formatBytes(bytes)} in ${seconds().toFixed(2)} s, ${formatBytes(rate)}/s, from offset ${baseOffset} on`;
      logger.info(what, { generation: id, bytes, seconds: Number(seconds().toFixed(3)) });
      directory.note("generation", what);
    } catch (error) {
      if (signal.aborted) {
        const what = `the new snapshot was given up: ${String(signal.reason)}`;
        logger.info(what);
        return directory.note("generation", what);
      }
      if (!(error instanceof ReplicaError)) throw error;
      this.#fail(error, seconds());
    } finally {
      free?.();
    }
  }

  #fail(error: ReplicaError, seconds: number): void {
    const { directory } = this.#options;
    this.#schedule.failed();
    this.counts.failed++;
    const what = `the new snapshot failed: ${error.message}; ${nameOf(directory.current?.id)} goes on as it was`;
    // A lack of room is reported once, however often a snapshot is due.
    if (error.message !== this.#last?.error?.message) {
      logger.warn(what, { code: error.code });
      directory.note("generation", what);
    }
    this.#last = { error, seconds };
    this.#failed = { generation: directory.current?.id, message: error.message };
  }

  async #renew(target: PrimaryTarget, by: string, signal: AbortSignal): Promise<RdbSummary> {
    const { directory, keeper } = this.#options;
    let begun: { readonly id: number; readonly grant: FullSyncGrant } | undefined;
    const askedAt = keeper.log?.writtenOffset;
    const place = async ({ grant, form }: GrantedResync) => {
      this.#refuseOld(grant, askedAt, target);
      const missedBytes = () => this.#missedBytes(grant);
      if (form.kind === "length") await this.#oversize.admit(form.bytes, missedBytes());
      const { id } = await directory.begin(describeTarget(target));
      begun = { id, grant };
      const roomFor = this.#oversize.roomFor(missedBytes, (error) => fetching.refuse(error));
      const onWriter = (writer: SnapshotWriter) =>
        tellArriving(directory, id, target, grant, writer);
      return { path: directory.basePath(id), roomFor, onWriter };
    };
    const { receivedBytes: received, files } = keeper;
    const surroundings = { ...this.#options, received, files };
    const fetching = new SnapshotFetch(target, {
      ...this.#options,
      login: this.#options.link.login,
    });
    this.#fetching = fetching;
    try {
      const rdb = await fetching.run(
        (events) => new FileOutlet(place, surroundings, events),
        signal,
        directory.current?.baseOffset,
      );
      invariant(begun !== undefined, "a snapshot that was kept was begun");
      const { grantedAtMs } = fetching;
      await keeper.adopt({ ...begun, rdb, grantedAtMs }, `replaced (${by})`, signal);
      const seconds = this.runningSeconds ?? 0;
      // The wall clock may have been set meanwhile.
      const sinceGrant = Math.max(0, (this.#options.clock.now() - grantedAtMs) / 1000);
      this.#took = longest(
        { seconds, sinceForkSeconds: Math.min(seconds, sinceGrant) },
        this.#took,
      );
      return rdb;
    } catch (error) {
      if (begun !== undefined) directory.discard(begun.id);
      throw error;
    }
  }

  /**
   * Refuses what would not shorten the log: a primary that is a `replica` itself gives the snapshot that it has.
   * Taken again and again, it would fill the disk with copies of the same log.
   * @param askedAt how far the log was written when it was asked for: what came since is in no snapshot.
   * @throws ReplicaError PRIMARY_REFUSED.
   */
  #refuseOld(grant: FullSyncGrant, askedAt: Offset | undefined, target: PrimaryTarget): void {
    const { current, replid: ours } = this.#options.directory;
    if (grant.by !== "psync" || current === undefined || askedAt === undefined) return;
    const { replid, offset } = grant.position;
    const isOlder = offset < current.baseOffset && replid === ours;
    if (offset !== current.baseOffset && !isOlder) return;
    if (askedAt === current.baseOffset) return;
    throw new ReplicaError("PRIMARY_REFUSED", {
      message: `${describeTarget(target)} has no newer snapshot than the one that is kept, of offset ${current.baseOffset}: where it is a replica of this kind, its log says why it took none; send it BGSAVE`,
    });
  }

  /** How much of the stream came since a snapshot was taken: what a `replica` gives is older than its grant. */
  #missedBytes(grant: FullSyncGrant): number {
    const { log } = this.#options.keeper;
    if (grant.by !== "psync" || log === undefined) return 0;
    return Math.max(0, log.writtenOffset - grant.position.offset);
  }

  /** Once a second: begins one where time, the size of the log or the disk asks for it. */
  tick(): void {
    const { directory, link, keeper, room } = this.#options;
    if (this.#running !== undefined || link.connectedTo === undefined) return;
    const { current } = directory;
    if (current === undefined || keeper.log === undefined) return;
    const by = this.#schedule.next(current, keeper.log.fileBytes, room);
    if (by === undefined) return;
    try {
      this.begin(by);
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      this.#fail(error, 0);
    }
  }

  /**
   * Gives up the one under way; resolves once nothing of it is left.
   * @param why for the log: `REPLICAOF NO ONE`.
   */
  async stop(why: string): Promise<void> {
    this.#stopping.abort(why);
    this.#stopping = new AbortController();
    await this.#running;
  }
}

function longest(last: Took, before: Took = last): Took {
  return {
    seconds: Math.max(last.seconds, FADES * before.seconds),
    sinceForkSeconds: Math.max(last.sinceForkSeconds, FADES * before.sinceForkSeconds),
  };
}

function nameOf(id: number | undefined): string {
  return id === undefined ? "what is kept" : `generation ${id}`;
}
