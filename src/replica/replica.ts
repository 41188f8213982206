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
import { announcedAddress, driverOptions, infoAsker } from "../upstream/driver-options.ts";
import { GenerationKeeper } from "../upstream/keeper.ts";
import { LinkHistory } from "../upstream/link/link-history.ts";
import { Locator } from "../upstream/link/locator.ts";
import { Supply } from "../upstream/link/supply.ts";
import type { Renewal } from "../upstream/renewal.ts";
import { Resyncs } from "../upstream/resyncs.ts";
import { Upkeep } from "../upstream/upkeep.ts";
import { endReplica } from "./ending.ts";
import { Pace } from "./pace.ts";
import { limits } from "../config/limits.ts";

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
  /** Whether the primary is supplied with data itself. */
  readonly supply: Supply;
  /** As Redis makes it: 40 hex digits, another for each process. */
  readonly runId = Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex");
  readonly pace: Pace;
  /** Renewals, retention, and the room for both. */
  readonly upkeep: Upkeep;
  /** Feeds other replicas. */
  readonly relay: Relay;
  readonly #clock: Clock;
  readonly #settings: Settings;
  readonly #driver: Driver;
  readonly #keeper: GenerationKeeper;
  readonly #offline: Offline;
  #isFollowing = true;
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
    listeningPort: number | undefined,
  ) {
    const served = { directory, disk, clock, timeoutMs: settings.timeoutMs };
    const announced = announcedAddress(settings, listeningPort);
    this.directory = directory;
    this.#clock = clock;
    this.#settings = settings;
    this.primary = new Locator(source, clock, settings);
    this.links = new LinkHistory(clock);
    this.resyncs = new Resyncs(clock, directory, infoAsker(this.primary, settings), settings);
    this.#offline = new Offline(served);
    this.relay = new Relay({ ...served, source: this });
    const linkOptions = {
      ...driverOptions("follow", this.primary, settings, announced),
      runId: this.runId,
    };
    this.#driver = new Driver(linkOptions, clock, {
      failed: (error, from) => this.#onFailed(error, from),
      failedUnlinked: (error) => this.#onFailedUnlinked(error),
      note: (level, message) => logger[level](message),
      moved: (state) => this.#onMoved(state),
      isAwaited: () => settings.fsync === "always" || this.relay.downstreams.size > 0,
    });
    this.primary.leave = (error) => this.#driver.failed(error);
    const fed = () => [...this.relay.downstreams];
    const servedPorts = [listeningPort ?? [], announced?.port ?? []].flat();
    const tellsOfCluster = this.primary.namedBy !== "cluster";
    const asked = { askPrimary: settings.askPrimary, servedPorts, fed, tellsOfCluster };
    this.supply = new Supply({ ...linkOptions, ...asked }, clock, {
      looped: (error) => this.#driver.failed(error),
      changed: (what) => this.#onPrimaryChanged(what),
    });
    const queues = { maxQueuedBytes: limits.queuedBytes, maxLogQueuedBytes: limits.logQueuedBytes };
    const admit: Upkeep["admit"] = (bytes, grant) => this.upkeep.admit(bytes, grant);
    this.#keeper = new GenerationKeeper(
      directory,
      disk,
      clock,
      { ...settings, ...queues, admit },
      this.#driver,
      this.relay,
      this.resyncs,
    );
    this.pace = new Pace(clock, settings.fsync, this.#keeper);
    const surroundings = { directory, disk, clock, settings, announced, primary: this.primary };
    this.upkeep = new Upkeep({ ...surroundings, keeper: this.#keeper, link: this.#driver });
  }

  /** Takes new generations while the current one is followed. */
  get renewal(): Renewal {
    return this.upkeep.renewal;
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

  /** See `Driver.endRest`. */
  hear = (): Promise<void> | undefined => this.#driver.endRest();

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
    this.upkeep.forget();
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
    // Nobody is asked for a full resync any more, so none lacks room.
    this.upkeep.admission.forget();
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
   * Follows until `signal` is aborted; then the last bytes are written, synced, marked and acknowledged.
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
        const ending = AbortSignal.any([signal, this.#wake.signal]);
        await this.supply.explainLast(this.links, this.primary.target, ending);
        const waitMs = this.links.waitMs(this.#settings.retryMaxMs);
        const about = { code: error.code, primary: this.primary.name };
        const { level, text } = this.links.takeNews();
        logger[level](`${text}; next attempt in ${waitMs} ms`, about);
        await this.primary.rest(waitMs, ending);
      }
    } finally {
      clearInterval(this.#second);
      this.supply.rest();
      const { directory, relay, upkeep } = this;
      const parts = { clock: this.#clock, driver: this.#driver, keeper: this.#keeper };
      await endReplica({ ...parts, directory, relay, upkeep });
    }
  }

  #onSecond(): void {
    this.#keeper.tick();
    this.#driver.everySecond();
    this.links.tellEnded(this.resyncs.isFull);
    this.supply.tick(this.silentMs);
    this.upkeep.tick(this.#isFollowing);
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
      await this.supply.refuseLoop(target, this.links);
      if (signal.aborted || interrupted.aborted) return undefined;
      // The log failed while Sentinel was asked: nothing would keep the stream from `resume` on.
      if (resume !== undefined && this.log === undefined) return this.#keeper.failure;
      const { fullLog } = this.upkeep;
      const isForRoom = resume !== undefined && fullLog.asksForFull();
      this.resyncs.begin(resume, target, isForRoom);
      const asked = isForRoom ? undefined : resume;
      const weigh = this.upkeep.weigh(asked, isForRoom);
      const newerThan = isForRoom ? resume.offset : undefined;
      this.#driver.attempt(target, this.#keeper, this.#keeper, asked, { weigh, newerThan });
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
    const { name, namedBy } = this.primary;
    if (namedBy !== undefined && name !== before) this.directory.note(namedBy, name);
    return target;
  }

  #onPrimaryChanged(what: string): void {
    logger.info(what, { primary: this.primary.name });
    this.directory.note("break", what);
    this.links.explain(what);
  }

  #onFailed(error: ReplicaError, from: State): void {
    const ended = { from, isFull: this.resyncs.isFull, pausedMs: this.#driver.pausedMs };
    this.upkeep.failed(error, from);
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
    this.supply.moved(state, this.primary.target);
    this.upkeep.fullLog.moved(state);
    // What the primary sends now replaces the generation that was followed.
    if (state.at === "receive-bulk-header") void this.renewal.stop("a full resync replaces it");
    this.resyncs.moved(state, this.links.isFlapping);
    if (state.at === "connected") this.#onConnected();
    // Something else becomes durable from here on.
    if (state.at === "transfer" || state.at === "connected") this.pace.sample(state);
  }

  #onConnected(): void {
    this.primary.judge(true);
    this.upkeep.connected(this.resyncs.isFull);
    this.links.tellEnded(this.resyncs.isFull);
  }
}
