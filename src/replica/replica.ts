import type { Clock } from "../base/clock.ts";
import { ReplicaError } from "../base/errors.ts";
import { logger } from "../base/logger.ts";
import type { PrimarySource } from "../config/primary-source.ts";
import { describeTarget, type PrimaryTarget } from "../config/primary-url.ts";
import type { Settings } from "../config/settings.ts";
import { Offline } from "../downstream/offline.ts";
import { Relay } from "../downstream/relay.ts";
import {
  type EndedStream,
  FollowedStream,
  type Stream,
  type StreamSource,
} from "../downstream/streams.ts";
import type { State } from "../session/state.ts";
import type { Disk } from "../store/disk/disk.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { StreamEnd } from "../store/generation/layout.ts";
import type { StreamLog } from "../store/generation/stream-log.ts";
import { Driver } from "../upstream/driver.ts";
import { driverOptions } from "../upstream/driver-options.ts";
import { GenerationKeeper } from "../upstream/keeper.ts";
import { LinkHistory } from "../upstream/link/link-history.ts";
import { Locator } from "../upstream/link/locator.ts";
import { Renewal } from "../upstream/renewal.ts";
import { Retention } from "../upstream/retention.ts";
import { Resyncs } from "../upstream/resyncs.ts";
import { Pace } from "./pace.ts";
import { limits } from "../config/limits.ts";

/** A stop may take 2 s in all. */
const STOP_LIMIT_MS = 1_800;

/**
 * Follows one primary, attempt after attempt, until it is stopped; or serves what is kept while no primary
 * is followed. It owns the loop and whom to follow; each part that it joins owns its own state.
 */
export class Replica implements StreamSource {
  readonly directory: DataDirectory;
  /** The primary that is followed, or was last. */
  readonly primary: Locator;
  readonly resyncs: Resyncs;
  readonly links: LinkHistory;
  readonly pace: Pace;
  /** Takes new generations while the current one is followed. */
  readonly renewal: Renewal;
  readonly retention: Retention;
  /** Feeds other replicas. */
  readonly relay: Relay;
  readonly #clock: Clock;
  readonly #settings: Settings;
  readonly #driver: Driver;
  readonly #keeper: GenerationKeeper;
  readonly #offline: Offline;
  /** False after REPLICAOF NO ONE, and with --offline. */
  #isFollowing = true;
  /** Whether it was started with --offline, and follows nobody yet. */
  #isOffline = false;
  #followed: FollowedStream | undefined;
  /** Ends a pause: the back-off, or the one without a primary. */
  #wake = new AbortController();
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
    const served = { directory, disk, clock, timeoutMs: settings.timeoutMs };
    const announced = { port: settings.announcePort ?? listeningPort, ip: settings.announceIp };
    this.directory = directory;
    this.#clock = clock;
    this.#settings = settings;
    this.primary = new Locator(source, clock, settings);
    this.links = new LinkHistory(clock);
    this.resyncs = new Resyncs(clock, directory);
    this.#offline = new Offline(served);
    this.relay = new Relay({ ...served, source: this });
    this.#driver = new Driver(driverOptions("follow", this.primary, settings, announced), clock, {
      failed: (error, from) => this.#onFailed(error, from),
      failedUnlinked: (error) => this.#onFailedUnlinked(error),
      note: (level, message) => logger[level](message),
      moved: (state) => this.#onMoved(state),
    });
    this.#keeper = new GenerationKeeper(
      directory,
      disk,
      clock,
      { ...settings, maxQueuedBytes: limits.queuedBytes, maxLogQueuedBytes: limits.logQueuedBytes },
      this.#driver,
      this.relay,
      this.resyncs,
    );
    this.pace = new Pace(clock, settings.fsync, this.#keeper);
    this.retention = new Retention({ directory, disk, clock, settings });
    this.renewal = new Renewal({
      directory,
      keeper: this.#keeper,
      disk,
      clock,
      settings,
      announced,
      link: this.#driver,
    });
  }

  /** False after REPLICAOF NO ONE, and with --offline. */
  get isFollowing(): boolean {
    return this.#isFollowing;
  }

  /** Whether it was started with --offline, and follows nobody yet. */
  get isOffline(): boolean {
    return this.#isOffline;
  }

  /** Where the session with the primary stands. */
  get state(): State {
    return this.#driver.state;
  }

  /** The link to the primary, for those that are fed from here: `down` means that more is to come. */
  get linkState(): "up" | "down" | "none" {
    if (!this.#isFollowing) return "none";
    return this.state.at === "connected" ? "up" : "down";
  }

  /** The log that is followed, with its cursors; undefined until something is kept. */
  get log(): StreamLog | undefined {
    return this.#keeper.log;
  }

  /** What downstream replicas are fed; undefined while nothing can be relied on. */
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

  /** Bytes that came from the primary since the start, over either link. */
  get receivedBytes(): { readonly snapshot: number; readonly stream: number } {
    return this.#keeper.receivedBytes;
  }

  /** Milliseconds since the primary was last heard. */
  get silentMs(): number {
    return this.#driver.silentMs;
  }

  /**
   * REPLICAOF: follows another primary from now on, by partial resync where that one grants it.
   * @param by the address of the client that said so, for the log.
   */
  follow(target: PrimaryTarget, by?: string): void {
    logger.info(`REPLICAOF: following ${describeTarget(target)}`, { client: by });
    this.directory.note("replicaof", describeTarget(target));
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
    this.links.forget();
    this.#interrupt();
  }

  /** Starts without a primary, as CONFIG REWRITE left it; call it before `run`. */
  beginIdle(): void {
    this.#isFollowing = false;
  }

  /** Starts without a primary, to serve what is kept up to `until`; call it before `run`. */
  beginOffline(until: StreamEnd | undefined): void {
    this.#isFollowing = false;
    this.#isOffline = true;
    this.#offline.until = until;
    this.primary.forget();
  }

  /** REPLICAOF NO ONE: leaves the primary, in whatever state the link is. */
  leave(by?: string): void {
    if (!this.#isFollowing) return;
    logger.info(`REPLICAOF NO ONE: leaving ${this.primary.name}`, { client: by });
    this.directory.note("replicaof", "no one");
    this.#isFollowing = false;
    void this.renewal.stop("REPLICAOF NO ONE");
    this.#driver.leave();
    this.#interrupt();
  }

  /** Ends what is under way, without counting a failure; the loop then decides again what to do. */
  #interrupt(): void {
    this.#onAttemptEnded(undefined);
    this.#wake.abort();
    this.#wake = new AbortController();
  }

  /**
   * Follows until `signal` is aborted; then the last bytes are written, synced, marked and
   * acknowledged.
   * @throws ReplicaError where going on can't help (`retry: "never"`).
   */
  async run(signal: AbortSignal): Promise<void> {
    this.pace.sample(this.state);
    this.#second = setInterval(() => this.#onSecond(), 1000);
    signal.addEventListener("abort", () => this.#onAttemptEnded(undefined), { once: true });
    try {
      while (!signal.aborted) {
        const error = await (this.#isFollowing ? this.#attempt(signal) : this.#serveKept(signal));
        if (error === undefined) continue; // stopped, or REPLICAOF named another primary, or none
        if (error.retry === "never") throw error;
        const waitMs = this.links.waitMs(this.#settings.retryMaxMs);
        const about = { code: error.code, primary: this.primary.name };
        const { level, text } = this.links.takeNews();
        logger[level](`${text}; next attempt in ${waitMs} ms`, about);
        await this.#clock.sleep(waitMs, AbortSignal.any([signal, this.#wake.signal]));
      }
    } finally {
      await this.#stop();
    }
  }

  #onSecond(): void {
    this.#keeper.tick();
    this.renewal.tick();
    // What is served without a primary stays: nothing new replaces it.
    if (this.#isFollowing) this.retention.tick();
    this.relay.tick();
    this.pace.sampleAge();
    this.pace.sample(this.state);
  }

  /** One attempt; resolves with why it ended, or with undefined once `signal` is aborted. */
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
      // REPLICAOF named another primary meanwhile, or none.
      if (interrupted.aborted) return undefined;
      this.#driver.follow();
      const target = await this.#locate(AbortSignal.any([signal, interrupted]));
      if (target === undefined) return undefined;
      // The log failed while Sentinel was asked: nothing would keep the stream from `resume` on.
      if (resume !== undefined && this.log === undefined) return this.#keeper.failure;
      this.resyncs.begin(resume);
      this.#driver.attempt(target, this.#keeper, this.#keeper, resume);
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      this.#onFailed(error, this.state);
    }
    return ended;
  }

  /**
   * Serves what is kept until a primary is followed again; resolves with why that can't be done, or with undefined
   * once there is something else to do.
   */
  async #serveKept(signal: AbortSignal): Promise<ReplicaError | undefined> {
    const ending = AbortSignal.any([signal, this.#wake.signal]);
    const ended = new Promise<undefined>((resolve) => {
      ending.addEventListener("abort", () => resolve(undefined), { once: true });
    });
    if (ending.aborted) return undefined;
    // As with a promoted replica: those that are attached must ask for the new history.
    this.relay.endAll("no primary is followed: the stream continues under a new replication id");
    try {
      // A disk that hangs must not keep us from ending.
      const beginning = this.#beginOffline(ending);
      beginning.catch(() => undefined);
      await Promise.race([beginning, ended]);
      return await ended;
    } catch (error) {
      if (ending.aborted) return undefined;
      if (!(error instanceof ReplicaError)) throw error;
      this.#onFailed(error, this.state);
      // Damage stays. Started to serve it, the replica ends; having left a primary, it may follow another.
      if (error.retry !== "never" || this.#isOffline || error.code === "DIRECTORY_LOST")
        return error;
      logger.error(`${error.message}; no replica is served until a primary is followed`);
      return await ended;
    } finally {
      this.#offline.end();
    }
  }

  async #beginOffline(ending: AbortSignal): Promise<void> {
    // Opening the log may cut it; with --offline everything stays as it is.
    if (!this.#isOffline) await this.#keeper.resume();
    if (!ending.aborted) await this.#offline.begin(ending);
  }

  /** The primary of this attempt; undefined where `signal` was aborted meanwhile. */
  async #locate(signal: AbortSignal): Promise<PrimaryTarget | undefined> {
    const before = this.primary.name;
    const target = await this.primary.locate(signal);
    if (signal.aborted) return undefined;
    if (this.primary.name !== before) this.directory.note("sentinel", this.primary.name);
    return target;
  }

  #onFailed(error: ReplicaError, from: State): void {
    const { isFull } = this.resyncs;
    const ended = { from, isFull, pausedMs: this.#driver.pausedMs };
    const { wasConnected, isAnother } = this.links.failed(error, ended);
    if (!wasConnected) this.primary.judge(false);
    // A primary that is away is noted once, not at each attempt.
    if (isAnother) this.directory.note("break", error.message);
    this.#onAttemptEnded(error);
  }

  /** The log or a snapshot failed while no link was there to break. */
  #onFailedUnlinked(error: ReplicaError): void {
    this.links.note(error);
    logger.warn(error.message, { code: error.code });
    this.directory.note("break", error.message);
    if (this.#isFollowing) return;
    // What is served ends elsewhere now.
    this.#offline.end();
    this.#interrupt();
  }

  #onMoved(state: State): void {
    this.links.moved(state, this.#driver.pausedMs);
    // What the primary sends now replaces the generation that was followed.
    if (state.at === "receive-bulk-header") void this.renewal.stop("a full resync replaces it");
    this.resyncs.moved(state);
    if (state.at === "connected") this.#onConnected();
    // Something else becomes durable from here on.
    if (state.at === "transfer" || state.at === "connected") this.pace.sample(state);
  }

  #onConnected(): void {
    this.primary.judge(true);
    const outage = this.links.ended();
    if (outage !== undefined) logger.info(`link up ${outage.cost(this.resyncs.isFull)}`);
  }

  /** Writes, syncs, marks and acknowledges what was received, within the time that a stop may take. */
  async #stop(): Promise<void> {
    clearInterval(this.#second);
    const before = this.#keeper.failure;
    const inTime = new AbortController();
    const finished = this.#finish().finally(() => inTime.abort());
    await Promise.race([finished, this.#clock.sleep(STOP_LIMIT_MS, inTime.signal)]);
    if (!inTime.signal.aborted) {
      logger.warn(
        `the disk did not finish within ${STOP_LIMIT_MS} ms: the next start asks again for what no mark covers`,
      );
    }
    // What counts as durable must be where it is looked for.
    this.directory.refuseLost();
    // A primary that left at the same time isn't our failure; a failed disk is.
    const { failure } = this.#keeper;
    if (failure !== undefined && failure !== before) throw failure;
  }

  async #finish(): Promise<void> {
    const renewed = this.renewal.stop("the replica stops");
    try {
      // A complete payload would have to be sent again.
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
