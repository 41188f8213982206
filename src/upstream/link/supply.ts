import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import type { State } from "../../session/state.ts";
import { describeTarget, type PrimaryTarget } from "../../config/primary-url.ts";
import { type CostlyBreak, describeChange, explainBreak } from "./causes.ts";
import {
  type Answer,
  MAX_CHAIN,
  plainAddress,
  type PrimaryFacts,
  readBufferLimit,
  readFacts,
  readLinkAddresses,
  type UpstreamFacts,
} from "./primary-facts.ts";
import { type NewsOptions, PrimaryNews } from "./primary-news.ts";
import { loopError, troubleOf } from "./supply-words.ts";
import type { KeyspaceFacts } from "./primary-facts.ts";
import type { LinkHistory } from "./link-history.ts";
import { SideLink, type SideLinkOptions } from "./side-link.ts";

export interface SupplyOptions extends SideLinkOptions, NewsOptions {
  /** --timeout */
  readonly timeoutMs: number;
  /** See `Evidence`. */
  readonly olderForm?: string | undefined;
  /** False with `--ask-primary no`: nothing is asked, ever. */
  readonly askPrimary: boolean;
  /** The run id of this process. */
  readonly runId: string;
  /** Those that are fed from here: `host:port` of their end of the link, and the run id of another `replica`. */
  readonly fed: () => readonly { readonly address: string; readonly runId: string }[];
}

/** The keys that a primary spoke of while all that it sent was here. */
export interface SaidKeyspace extends KeyspaceFacts {
  /** When the answer came; milliseconds since 1970. */
  readonly saidAtMs: number;
}

export interface SupplyEvents {
  /** The primary that is followed turns out to be fed from here. */
  looped(error: ReplicaError): void;
  /** Another process answers than the one before the link broke; in words. */
  changed(what: string): void;
}

/** As often a primary is asked, whose role may change; and a replica, whose own link may break at any moment. */
const ASK_PRIMARY_MS = 10_000;
const ASK_REPLICA_MS = 2_000;
/** A login that is refused may be one whose file is being replaced; each try is a line in the primary's ACL log. */
const ASK_AGAIN_MS = 60_000;

/**
 * Knows whether the primary that is followed is supplied with data itself: it may be a replica whose own primary is
 * gone, or be fed by this very replica. Asks it with INFO over a side link, for as long as it is followed.
 */
export class Supply {
  readonly #options: SupplyOptions;
  readonly #news: PrimaryNews;
  readonly #clock: Clock;
  readonly #events: SupplyEvents;
  #target: PrimaryTarget | undefined;
  #side: SideLink | undefined;
  #facts: PrimaryFacts | undefined;
  #answeredMs = -Infinity;
  /** What the primary of the link before this one said last, and when. */
  #before:
    { readonly name: string; readonly facts: PrimaryFacts; readonly atMs: number } | undefined;
  /** Refused questions are not asked again over the same link: each refusal is a line in the primary's ACL log. */
  #isRefused = false;
  /** When to try again after the login for the questions was refused; the link itself is logged in. */
  #retryAtMs = -Infinity;
  #mayListClients = true;
  #askedMs = -Infinity;
  /** Who was fed from here when it was asked last. */
  #fed = "";
  #isWatching = false;
  /** Whether what the primary said is why it can't be followed. */
  #isSeeking = false;
  /** While a snapshot arrives, the primary speaks of keys that are not here yet. */
  #isConnected = false;
  #keyspace: SaidKeyspace | undefined;
  /** Answers of the link before this one are dropped. */
  #epoch = 0;
  #unsupplied: { readonly sinceMs: number } | undefined;

  constructor(options: SupplyOptions, clock: Clock, events: SupplyEvents) {
    this.#options = options;
    this.#news = new PrimaryNews(options);
    this.#clock = clock;
    this.#events = events;
  }

  /** What the primary said last; undefined where it said nothing yet, or may not be asked. */
  get facts(): PrimaryFacts | undefined {
    return this.#facts;
  }

  /** How long ago it said that; milliseconds. */
  get factsAgeMs(): number {
    return this.#clock.monotonicMs() - this.#answeredMs;
  }

  /** What the last one that was connected said of its keys; it stays after the link is gone. */
  get keyspace(): SaidKeyspace | undefined {
    return this.#keyspace;
  }

  /** Whether the primary is connected, and speaks of its keys. */
  get tellsKeys(): boolean {
    return this.#isConnected && this.#isAnswering && this.#facts?.keyspace !== undefined;
  }

  /** The processes above this one, nearest first, as far as they are known. */
  get runIds(): readonly string[] {
    const { runId = "", upstream } = this.#facts ?? {};
    if (!(this.#isWatching || this.#isSeeking) || runId === "") return [];
    return [runId, ...(upstream?.runIds ?? [])].slice(0, MAX_CHAIN);
  }

  #watch(target: PrimaryTarget): void {
    if (this.#isWatching && target === this.#target) return;
    this.#begin(target);
    this.#isWatching = true;
    this.#askIfDue();
  }

  /** The link is gone. What was learned stays, to be compared with. */
  rest(): void {
    this.#isWatching = false;
    this.#isConnected = false;
    this.#epoch++;
    this.#unsupplied = undefined;
    this.#side?.close();
    this.#side = undefined;
  }

  #begin(target: PrimaryTarget): void {
    this.rest();
    this.#epoch++;
    if (this.#target !== undefined && this.#facts !== undefined) {
      const name = describeTarget(this.#target);
      this.#before = { name, facts: this.#facts, atMs: this.#answeredMs };
    }
    this.#target = target;
    this.#isSeeking = false;
    this.#facts = undefined;
    this.#isRefused = !this.#options.askPrimary;
    this.#retryAtMs = -Infinity;
    this.#mayListClients = true;
    this.#askedMs = -Infinity;
  }

  /** The link to the primary is in another state. */
  moved(state: State, target: PrimaryTarget | undefined): void {
    if (state.at === "transfer") return;
    if (state.at === "none") this.#isSeeking = false;
    const isGranted = state.at === "receive-bulk-header" || state.at === "connected";
    if (!isGranted || target === undefined) return this.rest();
    this.#watch(target);
    this.#isConnected = state.at === "connected";
    this.#hearKeys();
  }

  #hearKeys(): void {
    const keyspace = this.#facts?.keyspace;
    if (!this.#isConnected || keyspace === undefined) return;
    this.#keyspace = { ...keyspace, saidAtMs: this.#clock.now() - this.factsAgeMs };
  }

  /**
   * Call once a second.
   * @param silentMs how long nothing has come from the primary.
   */
  tick(silentMs: number): void {
    this.trouble(silentMs);
    this.#askIfDue();
  }

  #askIfDue(): void {
    if (!this.#isWatching || this.#isRefused || this.#side?.isAsking === true) return;
    if (this.#clock.monotonicMs() < this.#retryAtMs) return;
    const everyMs = this.#facts?.upstream === undefined ? ASK_PRIMARY_MS : ASK_REPLICA_MS;
    // The first answers decide how often: until there is one, ask each second.
    const isDue = this.#clock.monotonicMs() - this.#askedMs >= everyMs;
    // One that attaches here may be the primary itself.
    const fed = this.#options
      .fed()
      .map(({ address }) => address)
      .join();
    const isNew = this.#facts === undefined || fed !== this.#fed;
    this.#fed = fed;
    if (isNew || isDue) void this.#watchOnce();
  }

  async #watchOnce(): Promise<void> {
    const epoch = this.#epoch;
    const isFirst = this.#facts === undefined;
    const answer = await this.#ask();
    if (epoch !== this.#epoch || answer.kind !== "facts") return;
    const change = isFirst ? this.#change(answer.facts) : undefined;
    if (change !== undefined) this.#events.changed(change);
    this.#news.hear(answer.facts);
    if (isFirst) await this.#tellOfCluster(answer.facts);
    const loop = await this.#loop();
    if (epoch === this.#epoch && loop !== undefined) this.#events.looped(loop);
  }

  async #tellOfCluster(facts: PrimaryFacts): Promise<void> {
    const ask: SideLink["ask"] = async (...commands) => await this.#sideLink().ask(...commands);
    await this.#news.tellOfCluster(this.#target!, facts, ask);
  }

  #change(facts: PrimaryFacts): string | undefined {
    const before = this.#knownBefore;
    return before && describeChange(before.facts, facts, this.#clock.monotonicMs() - before.atMs);
  }

  /** What the same primary said before this link; undefined where another one was followed. */
  get #knownBefore() {
    return this.#before?.name === describeTarget(this.#target!) ? this.#before : undefined;
  }

  /**
   * Finds out what became of the primary after a link to it broke amid a resync, and adds that to the link's history.
   * @param target whom the last attempt was made with.
   * @param ending ends the waiting for an answer.
   */
  async explainLast(
    links: LinkHistory,
    target: PrimaryTarget | undefined,
    ending: AbortSignal,
  ): Promise<void> {
    const broken = links.unexplained;
    const code = broken?.error.code;
    // The disk, the payload or a refusal: the error itself is the cause.
    if (broken === undefined || (code !== "TIMED_OUT" && code !== "LINK_LOST")) return;
    if (target === undefined || ending.aborted) return;
    // It broke before the primary was ever asked.
    if (target !== this.#target) this.#begin(target);
    const ended = Promise.withResolvers<undefined>();
    const end = () => ended.resolve(undefined);
    ending.addEventListener("abort", end, { once: true });
    const found = await Promise.race([this.#explain(broken), ended.promise]);
    // It would keep each attempt's signal in memory.
    ending.removeEventListener("abort", end);
    if (found !== undefined && !ending.aborted) links.explain(found);
  }

  async #explain(broken: CostlyBreak): Promise<string> {
    const facts = this.#facts;
    const known = facts === undefined ? this.#knownBefore : { facts, atMs: this.#answeredMs };
    const before = known && {
      facts: known.facts,
      agoMs: this.#clock.monotonicMs() - known.atMs,
    };
    // The next attempt waits for both answers.
    const untilMs = this.#clock.monotonicMs() + this.#options.syncTimeoutMs;
    const now = await this.#ask();
    const mayTell = now.kind === "facts" && broken.error.code === "LINK_LOST";
    const limit = mayTell ? readBufferLimit(await this.#bufferLimit(untilMs)) : undefined;
    if (!this.#isWatching) this.rest();
    return explainBreak(broken, { before, now, limit, olderForm: this.#options.olderForm });
  }

  /**
   * Asks a primary that was refused as fed from here whether it still is, before a link that can't last. Asks one that
   * couldn't serve, too: in a circle none can, and with each attempt each learns of one more above it.
   * @throws ReplicaError REPLICATION_LOOP
   */
  async refuseLoop(target: PrimaryTarget, links: LinkHistory): Promise<void> {
    if (!["REPLICATION_LOOP", "PRIMARY_BUSY"].includes(links.trouble?.code ?? "")) return;
    this.#begin(target);
    const answer = await this.#ask();
    const loop = answer.kind === "facts" ? await this.#loop() : undefined;
    this.rest();
    this.#isSeeking = true;
    if (loop !== undefined) throw loop;
  }

  /** The primary's limits for output buffers, as redis.conf writes them; empty where it doesn't tell in time. */
  async #bufferLimit(untilMs: number): Promise<string> {
    const answered = new AbortController();
    const late = this.#clock
      .sleep(Math.max(0, untilMs - this.#clock.monotonicMs()), answered.signal)
      .then(() => []);
    const asking = this.#sideLink().ask(["CONFIG", "GET", "client-output-buffer-limit"]);
    const replies = await Promise.race([asking.catch(() => []), late]);
    answered.abort();
    return replies[2]?.text ?? "";
  }

  /**
   * Why the primary that is followed has no data to pass on; undefined where nothing says so.
   * @param silentMs how long nothing has come from it.
   */
  trouble(silentMs: number): string | undefined {
    const text = this.#troubleText(silentMs);
    if (text === undefined) this.#unsupplied = undefined;
    else this.#unsupplied ??= { sinceMs: this.#clock.monotonicMs() };
    return text;
  }

  /** Seconds since `trouble` first said so; 0 where it doesn't. */
  get troubleSeconds(): number {
    const since = this.#unsupplied?.sinceMs;
    return since === undefined ? 0 : Math.floor((this.#clock.monotonicMs() - since) / 1000);
  }

  #troubleText(silentMs: number): string | undefined {
    const target = this.#target;
    if (target === undefined || !this.#isWatching) return undefined;
    // What it said a while ago is no more than a guess.
    const facts = this.#isAnswering ? this.#facts : undefined;
    return troubleOf(describeTarget(target), facts, silentMs, this.#options.timeoutMs);
  }

  /** Whether what it said is recent. */
  get #isAnswering(): boolean {
    return this.factsAgeMs < ASK_PRIMARY_MS + this.#options.syncTimeoutMs + 2_000;
  }

  #sideLink(): SideLink {
    this.#side ??= new SideLink(this.#target!, this.#options);
    return this.#side;
  }

  async #ask(): Promise<Answer> {
    if (!this.#options.askPrimary) return { kind: "refused" };
    this.#askedMs = this.#clock.monotonicMs();
    const target = this.#target;
    try {
      const [reply] = await this.#sideLink().ask(["INFO", "default"]);
      if (reply === undefined || reply.isError) {
        // While it loads, or runs a script, it answers nothing.
        const isBusy = /^(?:LOADING|BUSY|MASTERDOWN)\b/.test(reply?.text ?? "");
        this.#isRefused = !isBusy;
        return { kind: "refused" };
      }
      const facts = readFacts(reply.text);
      if (target === this.#target) {
        this.#facts = facts;
        this.#answeredMs = this.#clock.monotonicMs();
        this.#hearKeys();
      }
      return { kind: "facts", facts };
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      if (error.code === "AUTH_FAILED") {
        this.#retryAtMs = this.#clock.monotonicMs() + ASK_AGAIN_MS;
        return { kind: "refused" };
      }
      if (error.code === "PROTOCOL") {
        this.#isRefused = true;
        return { kind: "refused" };
      }
      return { kind: "away", error };
    }
  }

  /** Whether following this primary would close a circle: it is this process, or is fed by it. */
  async #loop(): Promise<ReplicaError | undefined> {
    const { runId: mine } = this.#options;
    const { runId, upstream } = this.#facts ?? {};
    const name = describeTarget(this.#target!);
    if (runId === mine) return loopError(`${name} is this replica itself`);
    if (upstream === undefined) return undefined;
    const above = new Set([...this.runIds, ...upstream.runIds]);
    const isNamed = above.has(mine) || this.#options.fed().some((one) => above.has(one.runId));
    if (isNamed || (await this.#isFedFromHere(upstream))) {
      return loopError(`${name} is itself fed by this replica, so neither has a primary`);
    }
    return undefined;
  }

  /**
   * Whether the primary's own link ends here: of a stock server only its addresses tell. Its end of the link alone
   * doesn't: the kernel may give one port to several connections, if each leads elsewhere.
   */
  async #isFedFromHere({ port }: UpstreamFacts): Promise<boolean> {
    if (!this.#options.servedPorts.includes(port)) return false;
    const fed = new Set(this.#options.fed().map(({ address }) => plainAddress(address)));
    if (fed.size === 0 || !this.#mayListClients) return false;
    try {
      const [reply] = await this.#sideLink().ask(["CLIENT", "LIST", "TYPE", "master"]);
      if (reply === undefined || reply.isError) this.#mayListClients = false;
      else return readLinkAddresses(reply.text).some((address) => fed.has(address));
    } catch {
      // The next question finds out whether the primary is there.
    }
    return false;
  }
}
