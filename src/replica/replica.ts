import { logger } from "../base/logger.ts";
import { type Settings } from "../config/settings.ts";
import { ReplicaError } from "../base/errors.ts";
import type { PrimarySource } from "../config/primary-source.ts";
import { describeTarget, type PrimaryTarget } from "../config/primary-url.ts";
import { formatBytes } from "../base/quantity.ts";
import { Rate } from "../base/rate.ts";
import type { Position } from "../base/history.ts";
import { encodeCommand } from "../resp/encode.ts";
import type { State } from "../session/state.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { Disk } from "../store/disk/disk.ts";
import type { StreamEnd } from "../store/generation/layout.ts";
import type { Clock } from "../base/clock.ts";
import { Driver } from "../upstream/driver.ts";
import { DurableAge } from "./durable-age.ts";
import { type FullReason, whyFull } from "../upstream/link/full-reason.ts";
import { GenerationKeeper } from "../upstream/keeper.ts";
import { type Break, LinkHistory } from "../upstream/link/link-history.ts";
import { Locator } from "../upstream/link/locator.ts";
import { Offline } from "../downstream/offline.ts";
import { Relay } from "../downstream/relay.ts";
import { type EndedStream, FollowedStream, type Stream } from "../downstream/streams.ts";
import { Renewal } from "../upstream/renewal.ts";
import { Retention } from "../upstream/retention.ts";
import { limits } from "../config/limits.ts";

/** The contract gives a stop 2 s. */
const STOP_LIMIT_MS = 1_800;

/** What a sync that was granted turned out to be. */
export interface SyncCounts {
  full: number;
  partial: number;
}

/** What has happened since the start, by its kind. */
export interface ReplicaCounts {
  readonly fullSyncs: Map<FullReason, number>;
  /** Attempts that ended in an error, by its code. */
  readonly breaks: Map<string, number>;
  readonly bytes: { snapshot: number; stream: number };
}

/** Follows one primary, attempt after attempt, until it is stopped. */
export class Replica {
  readonly directory: DataDirectory;
  /** The primary that is followed, or was last. */
  readonly primary: Locator;
  readonly syncs: SyncCounts = { full: 0, partial: 0 };
  readonly counts: ReplicaCounts;
  readonly runId = Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex");
  /** Milliseconds since 1970. */
  readonly startedAtMs: number;
  readonly #startedMs: number;
  readonly #clock: Clock;
  readonly #settings: Settings;
  readonly #driver: Driver;
  readonly #keeper: GenerationKeeper;
  /** New generations while the current one is followed. */
  readonly renewal: Renewal;
  readonly retention: Retention;
  /** The replicas that are fed from here. */
  readonly relay: Relay;
  readonly #links: LinkHistory;
  /** False after REPLICAOF NO ONE, and with --offline. */
  #isFollowing = true;
  /** Whether it was begun to follow nobody: what is kept can't be served then is the end. */
  #isOffline = false;
  readonly #offline: Offline;
  #followed: FollowedStream | undefined;
  readonly #age: DurableAge;
  readonly #received: Rate;
  readonly #durable: Rate;
  /** Ends a pause, of the back-off or without a primary. */
  #wake = new AbortController();
  #transferBeganMs = 0;
  /** The last failure of the disk. */
  #diskError: ReplicaError | undefined;
  /** What the attempt under way asked to continue from, and whether it got a full resync instead. */
  #asked: Position | undefined;
  #full = false;
  #onAttemptEnded: (error: ReplicaError | undefined) => void = () => undefined;
  #second: ReturnType<typeof setInterval> | undefined;

  constructor(
    source: PrimarySource,
    directory: DataDirectory,
    disk: Disk,
    clock: Clock,
    settings: Settings,
    listeningPort: number,
  ) {
    this.primary = new Locator(source, clock, settings);
    this.directory = directory;
    this.#clock = clock;
    this.#settings = settings;
    this.startedAtMs = clock.now();
    this.#startedMs = clock.monotonicMs();
    this.#age = new DurableAge(() => clock.monotonicMs(), settings.fsync);
    this.#received = new Rate(() => clock.monotonicMs());
    this.#durable = new Rate(() => clock.monotonicMs());
    this.#keeper = new GenerationKeeper(
      directory,
      disk,
      clock,
      {
        io: settings.io,
        rdbSyncBytes: settings.rdbSyncBytes,
        maxQueuedBytes: limits.queuedBytes,
        maxLogQueuedBytes: limits.logQueuedBytes,
        fsync: settings.fsync,
        ack: settings.ack,
        primaryName: () => this.primary.name,
      },
      {
        acknowledge: (written, durable) => this.#acknowledge(written, durable),
        synced: (bytes) => this.#driver.step({ type: "snapshot-synced", bytes }),
        room: () => this.#driver.keeperHasRoom(),
        failed: (error) => this.#onKeeperFailed(error),
        moved: () => this.relay.moved(),
        broke: (reason) => this.relay.endAll(reason),
        received: (phase, bytes) => {
          this.counts.bytes[phase] += bytes;
        },
      },
    );
    const announced = {
      port: settings.announcePort ?? listeningPort,
      ip: settings.announceIp,
    };
    this.#driver = new Driver(
      {
        purpose: "follow",
        username: source.username ?? settings.username,
        password: source.password ?? settings.password,
        listeningPort: announced.port,
        announceIp: announced.ip,
        syncTimeoutMs: settings.syncTimeoutMs,
        timeoutMs: settings.timeoutMs,
        maxLineBytes: limits.handshakeLineBytes,
        tls: settings.tls,
      },
      this.#keeper,
      clock,
      {
        failed: (error) => this.#onFailed(error),
        note: (level, message) => logger[level](message),
        moved: (state) => this.#onMoved(state),
      },
    );
    this.#links = new LinkHistory(clock, () => this.#driver.pausedMs);
    this.counts = {
      fullSyncs: new Map(),
      breaks: this.#links.counts,
      bytes: { snapshot: 0, stream: 0 },
    };
    const event = (kind: string, detail: string) => this.#event(kind, detail);
    this.retention = new Retention({ directory, disk, clock, settings, event });
    const { timeoutMs } = settings;
    this.#offline = new Offline({ directory, disk, clock, timeoutMs });
    this.relay = new Relay({
      directory,
      disk,
      clock,
      timeoutMs,
      stream: () => this.stream,
      link: () => {
        if (!this.#isFollowing) return "none";
        return this.state.at === "connected" ? "up" : "down";
      },
    });
    this.renewal = new Renewal({
      directory,
      keeper: this.#keeper,
      disk,
      clock,
      settings,
      announced,
      received: (bytes) => {
        this.counts.bytes.snapshot += bytes;
      },
      followed: () => (this.state.at === "connected" ? this.primary.target : undefined),
      event,
    });
  }

  /** False after REPLICAOF NO ONE, and with --offline. */
  get isFollowing(): boolean {
    return this.#isFollowing;
  }

  /** Whether it was begun with --offline, and follows nobody yet. */
  get isOffline(): boolean {
    return this.#isOffline;
  }

  /** What downstreams are fed; undefined while nothing is to be relied on. */
  get stream(): Stream | undefined {
    if (!this.#isFollowing) return this.#offline.stream;
    const { log } = this;
    if (log === undefined) return undefined;
    if (this.#followed?.log !== log) this.#followed = new FollowedStream(this.directory, log);
    return this.#followed;
  }

  /** What is served while no primary is followed. */
  get endedStream(): EndedStream | undefined {
    return this.#isFollowing ? undefined : this.#offline.stream;
  }

  /**
   * REPLICAOF: follows another primary from now on, by partial resync where that one grants it.
   * @param by the address of who said so, for the log.
   */
  follow(target: PrimaryTarget, by?: string): void {
    logger.info(`told to follow ${describeTarget(target)}`, { client: by });
    this.#event("replicaof", describeTarget(target));
    void this.renewal.stop("REPLICAOF names another primary");
    this.#driver.leave();
    this.primary.follow(target);
    if (!this.#isFollowing) {
      this.relay.before = this.#offline.stream;
      this.relay.endAll("a primary is followed again");
    }
    this.#isFollowing = true;
    this.#isOffline = false;
    this.#offline.until = undefined;
    this.#links.forget();
    this.#interrupt();
  }

  /** Begins without a primary, as CONFIG REWRITE left it; to be said before it runs. */
  beginIdle(): void {
    this.#isFollowing = false;
  }

  /** Begins without a primary, to serve what is kept up to this; to be said before it runs. */
  beginOffline(until: StreamEnd | undefined): void {
    this.#isFollowing = false;
    this.#isOffline = true;
    this.#offline.until = until;
    this.primary.forget();
  }

  /** REPLICAOF NO ONE: leaves the primary, in whatever state the link is. */
  leave(by?: string): void {
    if (!this.#isFollowing) return;
    logger.info(`told to leave ${this.primary.name}`, { client: by });
    this.#event("replicaof", "no one");
    this.#isFollowing = false;
    void this.renewal.stop("REPLICAOF NO ONE");
    this.#driver.leave();
    this.#interrupt();
  }

  /** What is under way ends without being a failure; the loop looks anew at what it is to do. */
  #interrupt(): void {
    this.#onAttemptEnded(undefined);
    this.#wake.abort();
    this.#wake = new AbortController();
  }

  get state(): State {
    return this.#driver.session.state;
  }

  /** The last thing that went wrong; it stays when all is well again. */
  get lastBreak(): Break | undefined {
    return this.#links.last;
  }

  get lastError(): ReplicaError | undefined {
    return this.#links.last?.error;
  }

  /** See `LinkHistory.lastCause`. */
  get lastCause(): string {
    return this.#links.lastCause;
  }

  /** Over the last seconds, snapshot and stream alike. */
  get bytesPerSecond(): { readonly received: number; readonly durable: number } {
    return {
      received: this.#received.bytesPerSecond,
      durable: this.#durable.bytesPerSecond,
    };
  }

  /** The cursors of the log, as replication offsets; undefined until something is kept. */
  get log() {
    return this.#keeper.log;
  }

  /** What is to become of a byte that came, for it to be kept: with `--fsync no` nothing is synced. */
  get keptWord(): "written" | "durable" {
    return this.#settings.fsync === "no" ? "written" : "durable";
  }

  /** Seconds since the start, however the clock was set meanwhile. */
  get uptimeSeconds(): number {
    return Math.floor((this.#clock.monotonicMs() - this.#startedMs) / 1000);
  }

  /** Milliseconds since the primary was last heard. */
  get silentMs(): number {
    return this.#clock.monotonicMs() - this.#driver.session.lastIoMs;
  }

  /** See `LinkHistory.downSeconds`. */
  get linkDownSeconds(): number | undefined {
    return this.#links.downSeconds;
  }

  /**
   * Follows until `signal` is aborted; then the last bytes are written, synced, marked and
   * acknowledged.
   * @throws ReplicaError where going on can't help (`retry: "never"`).
   */
  async run(signal: AbortSignal): Promise<void> {
    this.#sampleRates();
    this.#second = setInterval(() => this.#onSecond(), 1000);
    signal.addEventListener("abort", () => this.#onAttemptEnded(undefined), { once: true });
    try {
      while (!signal.aborted) {
        const error = await (this.#isFollowing ? this.#attempt(signal) : this.#serveKept(signal));
        if (error === undefined) continue; // stopped, or told to follow another, or none
        if (error.retry === "never") throw error;
        const waitMs = this.#links.waitMs(this.#settings.retryMaxMs);
        logger.warn(`${this.lastCause}; next attempt in ${waitMs} ms`, {
          code: error.code,
          primary: this.primary.name,
        });
        await this.#clock.sleep(waitMs, AbortSignal.any([signal, this.#wake.signal]));
      }
    } finally {
      await this.#stop();
    }
  }

  #onSecond(): void {
    this.#keeper.tick();
    this.renewal.tick();
    // What is served without a primary stays: nothing new takes its place.
    if (this.#isFollowing) this.retention.tick();
    this.relay.tick();
    this.#age.sample(this.log);
    this.#sampleRates();
  }

  #sampleRates(): void {
    const { snapshot, stream } = this.counts.bytes;
    this.#received.sample(snapshot + stream);
    // What is made durable is the snapshot while it comes in, else the log.
    const { state } = this;
    if (state.at === "transfer") this.#durable.sample(state.syncedBytes, state);
    else this.#durable.sample(this.log?.durableOffset ?? 0, this.log);
  }

  /** For how long the oldest byte that is not durable (`--fsync no`: not written) has been here; 0 where all is. */
  get durableAgeSeconds(): number {
    return this.#age.seconds(this.log);
  }

  /** One attempt; resolves with why it ended, or with nothing once `signal` is aborted. */
  async #attempt(signal: AbortSignal): Promise<ReplicaError | undefined> {
    const interrupted = this.#wake.signal;
    const ended = new Promise<ReplicaError | undefined>((resolve) => {
      this.#onAttemptEnded = resolve;
    });
    try {
      const resuming = this.#keeper.resume();
      // A disk that hangs must not keep us from ending.
      const resume = await Promise.race([resuming, ended]);
      resuming.catch(() => undefined);
      if (signal.aborted) return undefined;
      if (resume instanceof ReplicaError) return resume;
      // Told meanwhile to follow another, or none.
      if (interrupted.aborted) return undefined;
      this.#driver.step({ type: "follow" });
      const target = await this.#locate(AbortSignal.any([signal, interrupted]));
      if (target === undefined) return undefined;
      this.#asked = resume;
      this.#full = false;
      this.#driver.attempt(target, resume);
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      this.#onFailed(error);
    }
    return ended;
  }

  /**
   * Serves what is kept until it is told otherwise; resolves with why that can't be done, or with nothing
   * once there is something else to do.
   */
  async #serveKept(signal: AbortSignal): Promise<ReplicaError | undefined> {
    const ending = AbortSignal.any([signal, this.#wake.signal]);
    const ended = new Promise<undefined>((resolve) => {
      ending.addEventListener("abort", () => resolve(undefined), { once: true });
    });
    if (ending.aborted) return undefined;
    // As with a promoted replica: those that are attached are to ask for the new history.
    this.relay.endAll("no primary is followed: what is kept goes on in a history of its own");
    try {
      // A disk that hangs must not keep us from ending.
      const beginning = this.#beginOffline(ending);
      beginning.catch(() => undefined);
      await Promise.race([beginning, ended]);
      return await ended;
    } catch (error) {
      if (ending.aborted) return undefined;
      if (!(error instanceof ReplicaError)) throw error;
      this.#onFailed(error);
      // What is damaged stays so: who began it to be served is told, who left a primary may follow another.
      if (error.retry !== "never" || this.#isOffline || error.code === "DIRECTORY_LOST")
        return error;
      logger.error(`${error.message}; no replica is served until a primary is followed`);
      return await ended;
    } finally {
      this.#offline.end();
    }
  }

  async #beginOffline(ending: AbortSignal): Promise<void> {
    // Opening the log may cut it, and what is only served stays as it is.
    if (!this.#isOffline) await this.#keeper.resume();
    if (!ending.aborted) await this.#offline.begin(ending);
  }

  /** The primary of this attempt; undefined where `signal` was aborted meanwhile. */
  async #locate(signal: AbortSignal): Promise<PrimaryTarget | undefined> {
    const before = this.primary.name;
    const target = await this.primary.locate(signal);
    if (signal.aborted) return undefined;
    if (this.primary.name !== before) this.#event("sentinel", this.primary.name);
    return target;
  }

  #onFailed(error: ReplicaError): void {
    const { wasConnected, isAnother } = this.#links.failed(error, this.#full);
    if (!wasConnected) this.primary.judge(false);
    // A primary that is away is told of once, not at each attempt.
    if (isAnother) this.#event("break", error.message);
    this.#onAttemptEnded(error);
  }

  /** The log or the snapshot failed. Where no link is there to break, it is told of here. */
  #onKeeperFailed(error: ReplicaError): void {
    this.#diskError = error;
    const { at } = this.state;
    if (at !== "none" && at !== "connect") return this.#driver.keeperFailed(error);
    this.#links.note(error);
    logger.warn(error.message, { code: error.code });
    this.#event("break", error.message);
    if (this.#isFollowing) return;
    // What is served ends elsewhere now.
    this.#offline.end();
    this.#interrupt();
  }

  #onMoved(state: State): void {
    this.#links.moved(state);
    if (state.at === "receive-bulk-header") this.#onFullSync(state);
    if (state.at === "transfer") this.#transferBeganMs = this.#clock.monotonicMs();
    if (state.at === "connected") this.#onConnected();
    // Something else is made durable from here on.
    if (state.at === "transfer" || state.at === "connected") this.#sampleRates();
  }

  #onFullSync(state: Extract<State, { at: "receive-bulk-header" }>): void {
    this.#full = true;
    // What the primary sends now takes the place of what was followed.
    void this.renewal.stop("a full resync takes its place");
    this.syncs.full++;
    const what =
      state.grant.by === "psync" ? `at offset ${state.grant.position.offset}` : "by SYNC";
    const [kind, reason] = whyFull(this.#asked, state.grant);
    increase(this.counts.fullSyncs, kind);
    this.#keeper.sealReason = `full resync ${what}: ${reason}`;
    logger.info(`full resync ${what}: ${reason}`);
    this.#event("full-resync", `${what}: ${reason}`);
  }

  #onConnected(): void {
    this.primary.judge(true);
    const stream = this.log;
    if (this.#full) {
      const bytes = this.directory.current?.rdbBytes ?? 0;
      const seconds = (this.#clock.monotonicMs() - this.#transferBeganMs) / 1000;
      logger.info(
        `connected by full resync: ${formatBytes(bytes)} in ${seconds.toFixed(2)} s, ${formatBytes(bytes / Math.max(seconds, 0.001))}/s, at offset ${stream?.receivedOffset}`,
        { generation: this.directory.current?.id, bytes, seconds },
      );
      return;
    }
    this.syncs.partial++;
    logger.info(`connected by partial resync at offset ${stream?.receivedOffset}`);
    this.#event("partial-resync", `at offset ${stream?.receivedOffset}`);
  }

  /** Notes what happened, for people who look later; the stream doesn't end where that fails. */
  #event(kind: string, detail: string): void {
    try {
      this.directory.event(kind, detail);
    } catch (error) {
      logger.warn(error instanceof Error ? error.message : String(error));
    }
  }

  #acknowledge(written: number, durable: number): void {
    if (this.state.at !== "connected") return;
    this.#driver.send(encodeCommand("REPLCONF", "ACK", written, "FACK", durable));
  }

  /** Writes, syncs, marks and acknowledges what has come in, within the time that a stop may take. */
  async #stop(): Promise<void> {
    clearInterval(this.#second);
    const before = this.#diskError;
    const inTime = new AbortController();
    const finished = this.#finish().finally(() => inTime.abort());
    await Promise.race([finished, this.#clock.sleep(STOP_LIMIT_MS, inTime.signal)]);
    if (!inTime.signal.aborted) {
      logger.warn(
        `the disk did not finish within ${STOP_LIMIT_MS} ms: what no mark covers will be asked for again`,
      );
    }
    // What is said to be durable is to be found.
    this.directory.refuseLost();
    // That the primary left too is no failure of ours.
    if (this.#diskError !== undefined && this.#diskError !== before) throw this.#diskError;
  }

  async #finish(): Promise<void> {
    const renewed = this.renewal.stop("the replica stops");
    try {
      // A payload that is whole would have to be sent again.
      if (this.state.at === "transfer" && this.state.finishing) await this.#driver.finishing;
      if (this.state.at === "connected") {
        // A primary that streams as fast as it can must not keep us from ending.
        this.#driver.stopReading();
        await this.#keeper.settle();
        this.#driver.hangUp();
      }
    } finally {
      this.relay.endAll("this replica stops");
      // Before anything is waited for: what is half received goes, however slow the disk is.
      this.#driver.leave();
      await this.#keeper.close();
      await renewed;
      await this.retention.stop();
    }
  }
}

function increase<Key>(counts: Map<Key, number>, key: Key): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
