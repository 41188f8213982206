import { expect } from "bun:test";
import { join } from "node:path";
import { Random } from "../../src/demo/random.ts";
import { ReplicaError } from "../../src/base/errors.ts";
import { type Offset, parseReplicationId, type ReplicationId } from "../../src/base/history.ts";
import { selectCommand } from "../../src/resp/encode.ts";
import { GenerationKeeper } from "../../src/upstream/keeper.ts";
import { Resyncs } from "../../src/upstream/resyncs.ts";
import { OpenFile } from "../../src/store/disk/open-file.ts";
import { DataDirectory } from "../../src/store/generation/data-directory.ts";
import { SnapshotWriter } from "../../src/store/generation/snapshot.ts";
import { pieces, rdbOf } from "../store/rdb.ts";
import type { PowerCut } from "../support/power-cut.ts";
import { PowerCutDisk } from "../support/power-cut-disk.ts";
import { parsePrimaryUrl } from "../../src/config/primary-url.ts";

export const HEADER = selectCommand(0);
/** A primary that gives no INFO. */
export const silent = () => Promise.reject(new ReplicaError("TIMED_OUT", { message: "no answer" }));
export const FIRST_ID = parseReplicationId("a".repeat(40));
export const SECOND_ID = parseReplicationId("b".repeat(40));

/** The stream's byte at `offset`; never zero, since lost pages read as zeros. */
function streamByte(offset: Offset): number {
  return 1 + ((Math.imul(offset, 0x9e3779b1) >>> 9) % 255);
}

const WHOLE_STREAM = Buffer.from(Array.from({ length: 20_000 }, (_, n) => streamByte(n + 1)));

/** A copy of the stream after offset `from` up to and including offset `to`. */
export function stream(from: Offset, to: Offset): Buffer {
  if (to > WHOLE_STREAM.length) throw new Error(`the stream ends before ${to}`);
  return Buffer.from(WHOLE_STREAM.subarray(from, to));
}

export interface Snapshot {
  readonly baseOffset: Offset;
  readonly rdb: Uint8Array;
}

const FIRST: Snapshot = { baseOffset: 1_000, rdb: rdbOf(1_500) };
export const SECOND: Snapshot = { baseOffset: 9_000, rdb: rdbOf(2_100) };
/** Taken over a second link while the stream goes on. */
export const THIRD: Snapshot = { baseOffset: 10_300, rdb: rdbOf(1_900) };

/**
 * What the replica has acknowledged and made current, up to some moment. A generation that is whole may be the
 * current one before that is promised.
 */
export interface Promised {
  readonly generation: number | undefined;
  readonly snapshot: Snapshot | undefined;
  /** The highest FACK by generation. */
  readonly facks: ReadonlyMap<number, Offset>;
  readonly snapshots: ReadonlyMap<number, Snapshot>;
  /** The highest ACK. */
  readonly acked: Offset;
}

export interface Moment {
  readonly cut: PowerCut;
  readonly promised: Promised;
}

export interface Mode {
  readonly fsync: "always" | "everysec" | "no";
  readonly ack: "written" | "durable" | "archived";
}

const PRIMARY = parsePrimaryUrl("redis://127.0.0.1:6379");

/** The replica's side of a link to a primary with two snapshots and one stream. */
export class Rig {
  readonly disk: PowerCutDisk;
  readonly directory: DataDirectory;
  readonly keeper: GenerationKeeper;
  readonly #resyncs: Resyncs;
  readonly #facks = new Map<number, Offset>();
  readonly #snapshots = new Map<number, Snapshot>();
  #failure: ReplicaError | undefined;
  #seenGeneration: number | undefined;
  #acked: Offset;
  /** Number of failed attempts. */
  failures = 0;

  constructor(path: string, disk: PowerCutDisk, mode: Mode, before?: Promised) {
    this.disk = disk;
    this.#acked = before?.acked ?? 0;
    let nowMs = 1_700_000_000_000;
    const clock = {
      // Sometimes longer than the time for which marks share a row.
      now: () => (nowMs += 170),
      monotonicMs: () => nowMs,
      sleep: () => Promise.resolve(),
      random: () => 0.5,
    };
    this.directory = new DataDirectory(path, disk, clock);
    for (const [id, snapshot] of before?.snapshots ?? []) this.#snapshots.set(id, snapshot);
    for (const [id, fack] of before?.facks ?? []) this.#facks.set(id, fack);
    this.#resyncs = new Resyncs(clock, this.directory, silent, { rdbFor: undefined });
    this.keeper = new GenerationKeeper(
      this.directory,
      disk,
      clock,
      {
        io: "auto",
        rdbSyncBytes: 400,
        maxQueuedBytes: 1024 * 1024,
        maxLogQueuedBytes: 1024 * 1024,
        admit: async () => (bytes) => bytes,
        ...mode,
      },
      {
        acknowledge: (acked, durable) => this.#acknowledged(acked, durable),
        hasRoom: () => undefined,
        failed: (error) => (this.#failure ??= error),
      },
      { moved: () => undefined, endAll: () => undefined },
      this.#resyncs,
    );
  }

  get promised(): Promised {
    // It is current, too, where the sync of its row failed: that one promises nothing.
    const isPromised = !this.disk.isDatabaseLost;
    const generation = isPromised ? this.directory.current?.id : this.#seenGeneration;
    // The successor holds what was acknowledged for its predecessor.
    if (generation !== undefined && this.#snapshots.get(generation) === THIRD) {
      const before = this.#facks.get(generation - 1) ?? 0;
      this.#facks.set(generation, Math.max(before, this.#facks.get(generation) ?? 0));
    }
    this.#seenGeneration = generation;
    return {
      generation,
      snapshot: generation === undefined ? undefined : this.#snapshots.get(generation),
      facks: new Map(this.#facks),
      snapshots: new Map(this.#snapshots),
      acked: this.#acked,
    };
  }

  /** Called when an ACK has been sent. */
  onAcknowledged: (label: string) => void = () => undefined;

  #acknowledged(written: Offset, durable: Offset): void {
    this.#acked = Math.max(this.#acked, written);
    const id = this.directory.current!.id;
    expect(durable).toBeLessThanOrEqual(this.keeper.log!.writtenOffset);
    this.#facks.set(id, Math.max(durable, this.#facks.get(id) ?? 0));
    this.onAcknowledged(`at ACK ${written} FACK ${durable} of generation ${id}`);
  }

  #throwFailure(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** Repeats `act` until it succeeds, with a resume in between, as the replica does. */
  async #untilDone(act: () => Promise<void>): Promise<void> {
    for (let left = 5; ; left--) {
      try {
        this.#throwFailure();
        await act();
        this.#throwFailure();
        return;
      } catch (error) {
        if (!(error instanceof ReplicaError) || left === 0) throw error;
        this.failures++;
        this.keeper.discard();
        await this.resume();
      }
    }
  }

  /** Opens the log; returns the position from which the primary is asked to continue. */
  async resume(): Promise<{ replid: ReplicationId; offset: Offset } | undefined> {
    const asked = await this.keeper.resume();
    this.#resyncs.begin(asked, PRIMARY);
    return asked;
  }

  /** @param beside whether the stream comes on a link of its own, while the payload does. */
  async fullResync(snapshot: Snapshot, replid: ReplicationId, beside = false): Promise<void> {
    await this.#untilDone(async () => {
      const { baseOffset: offset, rdb } = snapshot;
      // The stream begins after the payload, even if that isn't kept yet.
      let told = offset;
      await this.#payload(snapshot, replid, rdb, beside, () => {
        if (!beside) return;
        this.keeper.stream(stream(told, told + 23));
        told += 23;
        this.keeper.tick();
      });
      const begun = told;
      const finishing = this.keeper.finish();
      let over = false;
      finishing.catch(() => (over = true));
      const early = async () => {
        for (const to of [begun + 7, begun + 40, begun + 41]) {
          await this.disk.turns(30);
          if (over || this.#failure !== undefined) return;
          this.keeper.stream(stream(told, to));
          told = to;
        }
      };
      await Promise.allSettled([finishing, early()]);
      await finishing;
    });
  }

  /** Receives a payload that breaks off. */
  async brokenResync(snapshot: Snapshot): Promise<void> {
    await this.#untilDone(async () => {
      await this.#payload(snapshot, FIRST_ID, snapshot.rdb.subarray(0, 900), false);
      this.keeper.discard();
      await this.keeper.resume();
    });
  }

  async #payload(
    snapshot: Snapshot,
    replid: ReplicationId,
    rdb: Uint8Array,
    beside: boolean,
    between: () => void = () => undefined,
  ): Promise<void> {
    const { baseOffset: offset } = snapshot;
    const form = { kind: "length", bytes: snapshot.rdb.length } as const;
    const grant = { by: "psync", position: { replid, offset } } as const;
    const file = await this.keeper.open({ primary: PRIMARY, grant, form, beside });
    this.#snapshots.set(Number(/\/(\d{10})\//.exec(file)![1]), snapshot);
    for (const piece of pieces(rdb, 170)) {
      this.keeper.payload(piece);
      await this.disk.turns(20);
      between();
      this.#throwFailure();
    }
  }

  /** Replaces the current generation by a new one, while the stream goes on to `to`. */
  async renew(snapshot: Snapshot, replid: ReplicationId, to: Offset, random: Random) {
    await this.#untilDone(async () => {
      const { id, dir } = await this.directory.begin("127.0.0.1:6379");
      this.#snapshots.set(id, snapshot);
      const adopting = this.#adopt(id, dir, snapshot, replid);
      adopting.catch(() => undefined);
      await this.streamTo(to, random);
      await adopting;
    });
  }

  async #adopt(id: number, dir: string, snapshot: Snapshot, replid: ReplicationId): Promise<void> {
    const path = join(dir, "temp-1.2.rdb");
    let writer: SnapshotWriter | undefined;
    try {
      const file = { path, file: OpenFile.create(this.disk, path), io: "buffered" } as const;
      writer = new SnapshotWriter(this.disk, file, {
        totalBytes: snapshot.rdb.length,
        // More than it has: its last sync alone covers it.
        syncBytes: 4_000,
        maxQueuedBytes: 1024 * 1024,
        onRoom: () => undefined,
        onFailed: () => undefined,
      });
      for (const piece of pieces(snapshot.rdb, 170)) writer.write(piece);
      const rdb = await writer.finish(this.directory.basePath(id));
      const position = { replid, offset: snapshot.baseOffset };
      const grant = { by: "psync", position } as const;
      const fetched = { id, grant, rdb, grantedAtMs: 1_700_000_000_000 };
      await this.keeper.adopt(fetched, "replaced", new AbortController().signal);
    } catch (error) {
      writer?.abandon();
      this.directory.discard(id);
      throw error;
    }
  }

  /** Called between two pieces of the stream: others may do something. */
  protected async between(_random: Random): Promise<void> {}

  /** Streams up to `to`, with ticks and GETACKs on the way. */
  async streamTo(to: Offset, random: Random): Promise<void> {
    await this.#untilDone(async () => {
      const { log } = this.keeper;
      if (log === undefined) throw new Error("there is no log to stream to");
      for (let at = log.receivedOffset; at < to;) {
        const next = Math.min(to, at + 1 + random.below(300));
        this.keeper.stream(stream(at, next));
        at = next;
        await this.disk.turns(30);
        if (random.below(3) === 0) this.keeper.tick();
        if (random.below(3) === 0) this.keeper.acknowledge(at);
        await this.disk.turns(30);
        await this.between(random);
        this.#throwFailure();
      }
    });
  }

  /** Breaks the link; the primary continues under another id. */
  async linkBreak(replid: ReplicationId): Promise<void> {
    await this.#untilDone(async () => {
      const position = await this.resume();
      this.#throwFailure();
      expect(position?.offset).toBe(this.keeper.log!.receivedOffset);
      this.keeper.continued(replid);
    });
  }

  /** Removes generations beyond `keep`. */
  async retain(keep: number): Promise<void> {
    await this.#untilDone(async () => {
      await this.directory.keeping.retain(keep, undefined);
    });
  }

  async settle(): Promise<void> {
    await this.#untilDone(() => this.keeper.settle());
  }

  async close(): Promise<void> {
    await this.keeper.close();
    this.directory.close();
  }
}

export interface LifeOptions<T extends Rig> {
  /** Which sync fails, counted from 1. */
  readonly failingSync?: number | undefined;
  /** The data directory's path below the root. */
  readonly below?: string;
  readonly make: MakeRig<T>;
  readonly Disk?: typeof PowerCutDisk;
}

export interface Life<T extends Rig> {
  readonly moments: Moment[];
  readonly rig: T;
  readonly disk: PowerCutDisk;
}

/** How a rig is made, for a life with more parts. */
export type MakeRig<T extends Rig = Rig> = (
  path: string,
  disk: PowerCutDisk,
  mode: Mode,
  before?: Promised,
) => T;

export const plainRig: MakeRig = (path, disk, mode, before) => new Rig(path, disk, mode, before);

/** Lives the whole life of a folder; returns a moment for each of its disk calls. */
export async function live<T extends Rig>(
  root: string,
  mode: Mode,
  seed: number,
  { failingSync, below = "", make, Disk = PowerCutDisk }: LifeOptions<T>,
): Promise<Life<T>> {
  const path = join(root, below);
  const disk = new Disk(root, path, seed);
  disk.failingSync = failingSync;
  const random = new Random(seed);
  const moments: Moment[] = [];
  let rig: T | undefined;
  const nothing: Promised = {
    generation: undefined,
    snapshot: undefined,
    facks: new Map(),
    snapshots: new Map(),
    acked: 0,
  };
  const watch = (label: string) => {
    const promised = rig?.promised ?? nothing;
    moments.push({ cut: disk.cut(label), promised });
  };
  disk.onMoment(watch);
  rig = make(path, disk, mode);
  rig.onAcknowledged = watch;
  expect(await rig.resume()).toBeUndefined();
  await rig.fullResync(FIRST, FIRST_ID);
  await rig.streamTo(2_500, random);
  await rig.linkBreak(SECOND_ID);
  await rig.streamTo(3_200, random);
  await rig.brokenResync(SECOND);
  await rig.streamTo(3_600, random);
  await rig.fullResync(SECOND, SECOND_ID, true);
  await rig.streamTo(10_500, random);
  await rig.settle();
  await rig.streamTo(10_900, random);
  await rig.renew(THIRD, SECOND_ID, 11_800, random);
  await rig.streamTo(12_000, random);
  await rig.retain(1);
  await rig.close();
  watch("after all");
  return { moments, rig, disk };
}
