import type { Address } from "../../base/address.ts";
import { describeAddress } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { limits } from "../../config/limits.ts";
import { type ClusterSource, describeSource } from "../../config/primary-source.ts";
import type { Settings } from "../../config/settings.ts";
import type { Replica } from "../../replica/replica.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { PrimaryLogin } from "../../upstream/link/primary-login.ts";
import type { ShardRecord } from "../ledger/shard-records.ts";
import { formatRanges, type SlotRange } from "../slots/slot-ranges.ts";
import type { Believed } from "../topology/believe.ts";
import { ClusterLooks } from "../topology/looks.ts";
import { Told } from "../topology/told.ts";
import type { ShardView, Topology } from "../topology/topology.ts";
import { ClusterDirectory } from "./cluster-directory.ts";
import { findShards, type FoundShards } from "./find-shards.ts";
import { type BuildShard, FollowedShard } from "./followed-shard.ts";
import { LinkWatch } from "./link-watch.ts";
import { logWithin } from "./log-within.ts";
import { LayoutRecorder } from "./layout-recorder.ts";
import { MemberRecorder } from "./member-recorder.ts";
import { ShardBook } from "./shard-book.ts";
import { ShardNaming } from "./shard-naming.ts";
import { ShardPlaces } from "./shard-places.ts";
import { SnapshotGate } from "./snapshot-gate.ts";

export interface ClusterOptions {
  readonly source: ClusterSource;
  readonly settings: Settings;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly build: BuildShard;
}

/** A shard as it is reported. */
export interface ShardStatus {
  readonly record: ShardRecord;
  readonly state: "following" | "ended" | "failed";
  /** Undefined while its directory isn't open. */
  readonly replica: Replica | undefined;
  /** Why it isn't followed. */
  readonly error: ReplicaError | undefined;
  /** Its nodes and slots at the last look; undefined where that didn't show it. */
  readonly view: ShardView | undefined;
}

/** The cluster as it is reported. */
export interface TopologyStatus {
  /** Undefined before the first look that is believed. */
  readonly believed: Topology | undefined;
  /** The node whose view that is. */
  readonly from: string | undefined;
  /** Milliseconds since that look. */
  readonly ageMs: number | undefined;
  /** Why the last look found nothing to believe. */
  readonly error: ReplicaError | undefined;
}

/** How often the cluster is looked at. */
const LOOK_MS = 1_000;
/** After so long without a look a primary may lead another shard. */
const AWAY_MS = 10_000;

/**
 * Follows every shard of a cluster, each into a data directory of its own: begins with those that appear, ends those that
 * are no more, and records who owns which slots.
 */
export class ClusterFollower {
  readonly #options: ClusterOptions;
  readonly #directory: ClusterDirectory;
  readonly #book: ShardBook;
  readonly #places: ShardPlaces;
  readonly #layouts: LayoutRecorder;
  readonly #members: MemberRecorder;
  readonly #looks: ClusterLooks;
  readonly #gate: SnapshotGate;
  readonly #told = new Told();
  readonly #shards = new Map<number, FollowedShard>();
  /** Those that are no more, and whose directory is released. */
  readonly #ended = new Map<number, ShardRecord>();
  readonly #namings = new Map<number, ShardNaming>();
  readonly #watches = new Map<number, LinkWatch>();
  /** Views are taken one after the other, each once: several who asked get the same one. */
  #taking: Promise<void> = Promise.resolve();
  #taken: Believed | undefined;
  #error: ReplicaError | undefined;
  /** When a view was taken last. */
  #tookMs = 0;
  /** The wall clock's time at 0 of the monotonic one, as of the start: how long something lasts must not follow a clock that is set. */
  readonly #epochMs: number;
  /** The database holds what a failed sync did not make durable, or may hold what a kill kept from being synced. */
  #isUnsynced = true;
  #isStopping = false;

  /**
   * Opens the cluster's directory.
   * @throws ReplicaError as `ClusterDirectory`.
   */
  constructor(options: ClusterOptions) {
    const { source, settings, disk, clock } = options;
    this.#options = options;
    this.#epochMs = clock.now() - clock.monotonicMs();
    this.#directory = new ClusterDirectory(settings.dir, disk);
    try {
      const { ledger } = this.#directory;
      this.#book = new ShardBook(ledger);
      for (const record of ledger.shards()) {
        if (record.endedMs !== undefined) this.#ended.set(record.number, record);
      }
      this.#places = new ShardPlaces(ledger.others, settings.cluster.shards);
    } catch (error) {
      this.#directory.close();
      throw error;
    }
    this.#members = new MemberRecorder(this.#directory.ledger);
    const isPart = settings.cluster.shards !== undefined;
    this.#layouts = new LayoutRecorder(this.#directory.ledger, isPart, clock);
    this.#gate = new SnapshotGate(settings.cluster.snapshots);
    this.#looks = new ClusterLooks({
      source,
      settings,
      clock,
      login: new PrimaryLogin(source, settings),
      known: () => this.#book.known,
      addresses: () => this.#members.addresses(),
    });
  }

  /** The cluster's directory. */
  get path(): string {
    return this.#directory.path;
  }

  /** All that are or were followed, by their numbers. */
  get shards(): readonly ShardStatus[] {
    const nothing = { replica: undefined, error: undefined, view: undefined };
    const ended = [...this.#ended.values()].map((record): ShardStatus => ({
      record,
      state: "ended",
      ...nothing,
    }));
    const others = [...this.#shards.values()].map(
      ({ record, state, replica, error }): ShardStatus => {
        return { record, state, replica, error, view: this.#book.view(record.number) };
      },
    );
    return [...ended, ...others].toSorted((one, other) => one.record.number - other.record.number);
  }

  get topology(): TopologyStatus {
    const { last } = this.#looks;
    return {
      believed: last?.view.topology,
      from: last && describeAddress(last.view.from),
      ageMs: last && this.#options.clock.monotonicMs() - last.atMs,
      error: this.#error,
    };
  }

  /** How many shards wait for their turn to take a snapshot. */
  get waitingSnapshots(): number {
    return this.#gate.waiting;
  }

  /**
   * Follows until `signal` is aborted; then every shard writes out what it has.
   * @throws ReplicaError where no shard can be followed and no retry helps: a wrong URL, another cluster; DIRECTORY_LOST.
   */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, source } = this.#options;
    logger.info(`following the cluster ${describeSource(source)} into ${this.#directory.path}`);
    // Whatever is asked ends at once: a node that hangs must not keep us from ending.
    const stop = () => {
      this.#isStopping = true;
      // First: a shard that is about to end has nothing to say of a question that ends.
      for (const shard of this.#shards.values()) shard.stop().catch(() => undefined);
      this.#looks.close();
    };
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    // The others' rows are made durable first: the look begins them.
    const kept = this.#book.shards.filter(({ number }) => this.#directory.hasShard(number));
    for (const record of kept) this.#begin(record);
    try {
      while (!signal.aborted) {
        const beganMs = clock.monotonicMs();
        await this.#lookNow(signal);
        this.#directory.refuseLost();
        const tookMs = clock.monotonicMs() - beganMs;
        await clock.sleep(Math.max(LOOK_MS - tookMs, LOOK_MS / 10), signal);
      }
    } finally {
      stop();
      signal.removeEventListener("abort", stop);
      await Promise.all([...this.#shards.values()].map((shard) => shard.stop()));
      await this.#taking.catch(() => undefined);
      for (const naming of this.#namings.values()) naming.end();
    }
  }

  /** Releases the directory. Call it after `run`. */
  close(): void {
    this.#looks.close();
    this.#directory.close();
  }

  async #lookNow(signal: AbortSignal): Promise<void> {
    try {
      await this.#look();
      this.#error = undefined;
      this.#told.over("look");
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ReplicaError)) throw error;
      this.#error = error;
      // What was never right is a mistake of whoever started it.
      if (error.retry === "never") throw error;
      this.#told.warn("look", error.message);
    }
  }

  /** Looks at the cluster, and acts on what is found. */
  async #look(): Promise<void> {
    const view = await this.#looks.fresh();
    if (view !== this.#taken) {
      this.#taken = view;
      this.#taking = this.#taking.catch(() => undefined).then(() => this.#take(view));
    }
    await this.#taking;
  }

  async #take(view: Believed): Promise<void> {
    if (this.#isStopping) return;
    const nowMs = this.#options.clock.now();
    if (Math.abs(nowMs - this.#tookMs) > AWAY_MS) {
      this.#book.forgetPrimaries();
      this.#places.forgetPrimaries();
    }
    const matched = await this.#match(view);
    if (this.#isStopping) return;
    try {
      await this.#record(view, matched, nowMs);
      this.#tookMs = nowMs;
      this.#told.over("database", "the cluster's database is written again");
      // A shard's row is durable before its directory is made.
      for (const record of this.#book.shards) {
        if (!this.#shards.has(record.number)) this.#begin(record);
      }
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      // The shards that there are go on, through failovers too: each has a directory of its own.
      this.#told.warn("database", `${error.message}; no shard begins or ends meanwhile`);
    }
    for (const shard of this.#shards.values()) this.#saw(shard);
  }

  get #live(): readonly FollowedShard[] {
    return [...this.#shards.values()].filter(({ state }) => state !== "ended");
  }

  /** The earliest moment that each shard can be restored to. */
  get #oldestMoments(): readonly (number | undefined)[] {
    return this.#live.map(({ replica }) => replica?.directory.holdings.firstMs);
  }

  async #match({ topology }: Believed): Promise<FoundShards> {
    return await findShards(topology, {
      known: [...this.#book.knownShards, ...this.#places.known],
      kept: () => this.#live.map(({ record: { number }, replids }) => ({ number, replids })),
      ask: (address) => this.#looks.replication(address),
      clock: this.#options.clock,
    });
  }

  /** Records what a look found, durably. @throws ReplicaError of the database. */
  async #record(view: Believed, { found, isDoubtful }: FoundShards, nowMs: number): Promise<void> {
    // The book writes it, too: the database takes whole milliseconds.
    const passedMs = Math.round(this.#epochMs + this.#options.clock.monotonicMs());
    const { appeared, ended } = this.#book.take(view, found, passedMs, isDoubtful);
    const { wanted, isNews: isPlaced } = this.#places.take(view, found, appeared, nowMs);
    const begun = this.#upToLimit(wanted);
    // A row that is written may not be durable where the next one can't be written.
    if (isPlaced || begun.length > 0 || ended.length > 0) this.#isUnsynced = true;
    for (const { number, why } of ended) this.#end(number, why, nowMs);
    for (const one of begun) this.#book.add(one, nowMs, this.#directory.leastNumber);
    this.#members.record(this.#book, nowMs);
    const isNews = this.#layouts.record(view, this.#book, nowMs, passedMs);
    this.#layouts.forget(() => this.#oldestMoments, nowMs);
    if (isNews || this.#isUnsynced) {
      this.#isUnsynced = true;
      await this.#directory.ledger.sync();
      this.#isUnsynced = false;
    }
  }

  #upToLimit(wanted: readonly ShardView[]): readonly ShardView[] {
    const free = Math.max(0, limits.clusterShards - this.#book.shards.length);
    if (wanted.length > free) {
      this.#told.warn(
        "many",
        `the cluster has more shards than the ${limits.clusterShards} that one process follows: ${wanted.length - free} are left out; share them among several processes, with --shards`,
      );
    } else if (wanted.length > 0) this.#told.over("many");
    return wanted.slice(0, free);
  }

  #begin(record: ShardRecord): void {
    const { source, settings, clock, build } = this.#options;
    const { number, name } = record;
    const followed = (): FollowedShard => shard;
    const naming = new ShardNaming({
      number,
      source,
      readFrom: settings.cluster.readFrom,
      gate: this.#gate,
      clock,
      look: async () => {
        // What a look says is about the whole cluster.
        await logWithin({}, () => this.#look());
        return this.#book.view(number);
      },
      askSelf: (address, withinMs) => this.#looks.self(address, withinMs),
      resume: () => followed().resume,
    });
    const { tls, username, password } = source;
    const shardName = `shard ${name} of ${describeSource(source)}`;
    const shard = new FollowedShard(
      {
        record,
        dir: this.#directory.shard(number),
        source: { kind: "shard", tls, username, password, name: shardName, naming },
      },
      build,
      clock,
    );
    this.#shards.set(number, shard);
    this.#namings.set(number, naming);
    const { readFrom } = settings.cluster;
    const isStranger = (address: Address) => this.#looks.isStranger(address);
    this.#watches.set(number, new LinkWatch({ number, clock, readFrom, naming, isStranger }));
    const view = this.#book.view(number);
    if (view !== undefined) {
      this.#note("shard", `shard ${number} appeared: ${describeShard(view)}`);
    }
    shard.begin();
  }

  /** Its directory stays; nothing is ever written to it again. */
  #end(number: number, why: string, nowMs: number): void {
    const record = this.#book.end(number, why, nowMs);
    this.#note(
      "shard",
      `shard ${number} has ended: ${why}; what is kept of it stays in ${this.#directory.shard(number)}`,
    );
    this.#namings.get(number)?.end();
    this.#namings.delete(number);
    this.#watches.delete(number);
    const shard = this.#shards.get(number);
    void shard?.end(record).then(() => {
      this.#shards.delete(number);
      this.#ended.set(number, record);
    });
  }

  /** Takes how the last look saw a shard: another node may have to be followed. */
  #saw({ record: { number }, replica, state }: FollowedShard): void {
    if (state === "ended") return;
    const view = this.#book.view(number);
    const target = replica?.primary.target;
    const isUp = state === "following" && replica?.linkState === "up" && target !== undefined;
    const link = isUp && {
      target,
      isCutOff: replica.supply.facts?.upstream?.isUp === false,
      leave: (why: ReplicaError) => {
        if (replica.primary.target === target) replica.primary.leave(why);
      },
    };
    logWithin({ shard: number }, () => {
      this.#watches.get(number)?.see(view, link || undefined);
      this.#namings.get(number)?.saw(view);
    });
  }

  #note(kind: string, what: string): void {
    logger.info(what);
    this.#directory.note(kind, what, this.#options.clock.now());
  }
}

function describeShard({ primary, slots }: ShardView): string {
  const where = primary.address === undefined ? "" : ` at ${describeAddress(primary.address)}`;
  return `node ${primary.id}${where}, ${describeSlots(slots)}`;
}

function describeSlots(slots: readonly SlotRange[]): string {
  return slots.length === 0 ? "no slots yet" : `slots ${formatRanges(slots)}`;
}
