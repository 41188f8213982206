import { isIP } from "../../base/address.ts";
import type { Settings } from "../../config/settings.ts";
import { invariant, ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import {
  describeSource,
  isNamedElsewhere,
  type PrimaryNaming,
  type PrimarySource,
} from "../../config/primary-source.ts";
import { type PrimaryTarget, sameEndpoint } from "../../config/primary-url.ts";
import type { Clock } from "../../base/clock.ts";
import { resolveHost } from "./dial.ts";
import { PrimaryLogin } from "./primary-login.ts";
import { Sentinels } from "./sentinel.ts";

/**
 * Knows which primary to try next: the one that was named, or the one that Sentinel or a cluster names. Whom REPLICAOF names is a
 * stranger, unless the start names the same one: in its URL, by an address of the URL's host name, or through Sentinel.
 */
export class Locator {
  readonly source: PrimarySource;
  readonly login: PrimaryLogin;
  /** Breaks the link: who names the primary says that it isn't this one. */
  leave: (why: ReplicaError) => void = () => undefined;
  readonly #clock: Clock;
  readonly #syncTimeoutMs: number;
  readonly #naming: PrimaryNaming | undefined;
  #target: PrimaryTarget | undefined;
  #isOrdered = false;
  /** Whether the next attempt takes that one without asking who names it. */
  #isNamed = false;
  /** The last one that was followed. */
  #followed: PrimaryTarget | undefined;

  constructor(source: PrimarySource, clock: Clock, settings: Settings) {
    this.source = source;
    this.login = new PrimaryLogin(source, settings);
    this.#clock = clock;
    this.#syncTimeoutMs = settings.syncTimeoutMs;
    if (source.kind === "sentinel") this.#naming = new Sentinels(source, clock, settings);
    else if (source.kind === "shard") this.#naming = source.naming;
    else this.#target = source;
  }

  /** Who names the primary, as events and logs call it; undefined where it was named at the start. */
  get namedBy(): "sentinel" | "cluster" | undefined {
    if (!isNamedElsewhere(this.source)) return undefined;
    return this.source.kind === "sentinel" ? "sentinel" : "cluster";
  }

  /** Whether whom REPLICAOF names is connected to with TLS: as the one that the start names. */
  get usesTls(): boolean {
    return isNamedElsewhere(this.source) ? this.source.tls : this.source.kind === "tls";
  }

  /** Whether REPLICAOF named a primary, now or, as CONFIG REWRITE stored it, before. */
  get isOrdered(): boolean {
    return this.#isOrdered;
  }

  /** Undefined until one was named. */
  get target(): PrimaryTarget | undefined {
    return this.#target;
  }

  /** The primary as a URL without its password; who is asked for it until it was named. */
  get name(): string {
    return describeSource(this.#target ?? this.source);
  }

  /** As INFO and ROLE show it: a socket's path and 0; an empty host and 0 until it was named. */
  get hostAndPort(): readonly [host: string, port: number] {
    const target = this.#target;
    if (target === undefined) return ["", 0];
    return target.kind === "unix" ? [target.path, 0] : [target.host, target.port];
  }

  /** Forgets the primary that was named at start: none is followed. */
  forget(): void {
    this.#target = undefined;
  }

  /** REPLICAOF: tries this one next; Sentinel or the cluster, where it decides, is asked after that. */
  follow(target: PrimaryTarget): void {
    const { source } = this;
    const isSource = !isNamedElsewhere(source) && sameEndpoint(source, target);
    this.#turnTo(isSource ? source : asStranger(target));
    this.#isNamed = true;
    this.#isOrdered = true;
  }

  /**
   * The primary of the next attempt, at once where nobody needs to be asked. Undefined once `signal` is
   * aborted.
   * @throws ReplicaError PRIMARY_UNKNOWN as PrimaryNaming.locate.
   */
  locate(signal: AbortSignal): PrimaryTarget | Promise<PrimaryTarget | undefined> {
    const target = this.#target;
    const isNamed = this.#isNamed;
    this.#isNamed = false;
    if (target !== undefined && (isNamed || this.#naming === undefined)) {
      const isInDoubt = target.isStranger === true && this.login.isGiven;
      return isInDoubt ? this.#recognise(target, isNamed, signal) : target;
    }
    invariant(this.#naming !== undefined, "neither a primary nor anybody who names it");
    return this.#ask(this.#naming, signal);
  }

  /** @throws ReplicaError where a full resync of the primary that was located may not replace what is kept. */
  async refuseFull(): Promise<void> {
    if (this.#target?.isStranger !== true) await this.#naming?.refuseFull?.();
  }

  /** Whether new snapshots wait for their turn: there are other shards. */
  get hasTurns(): boolean {
    return this.#naming?.snapshotTurn !== undefined;
  }

  /** See `PrimaryNaming.snapshotTurn`; undefined where nobody needs to be waited for. */
  snapshotTurn(signal: AbortSignal): Promise<(() => void) | undefined> | undefined {
    return this.#naming?.snapshotTurn?.(signal);
  }

  /** Waits so long before the next attempt, or until another primary is named. */
  async rest(ms: number, signal: AbortSignal): Promise<void> {
    const changed = this.#naming?.changed;
    const ending = changed === undefined ? signal : AbortSignal.any([signal, changed]);
    await this.#clock.sleep(ms, ending);
  }

  /** Takes the outcome of the attempt: it tells whom to believe. */
  judge(isConnected: boolean): void {
    const target = this.#target;
    if (target === undefined) return;
    if (isConnected) this.#followed = target;
    this.#naming?.judge(target, isConnected);
  }

  #turnTo(target: PrimaryTarget): void {
    this.#target = target;
    this.login.turnTo(target);
  }

  async #ask(naming: PrimaryNaming, signal: AbortSignal): Promise<PrimaryTarget | undefined> {
    const target = await naming.locate(signal, this.#followed);
    if (target === undefined || signal.aborted) return undefined;
    const before = this.name;
    this.#turnTo(target);
    if (this.name !== before && target !== this.#followed)
      logger.info(`${this.namedBy === "sentinel" ? "Sentinel" : "the cluster"} names ${this.name}`);
    return target;
  }

  /**
   * Finds out whether a stranger is one whom the start names after all: then the login is for it.
   * @param isNew whether this is its first attempt: what no login means for it is told once.
   */
  async #recognise(
    target: PrimaryTarget,
    isNew: boolean,
    signal: AbortSignal,
  ): Promise<PrimaryTarget | undefined> {
    const known =
      this.#naming === undefined
        ? await this.#byHostName(target, signal)
        : await whoFrom(this.#naming, signal);
    if (signal.aborted) return undefined;
    if (known === undefined || !sameEndpoint(known, target)) {
      const { withheld } = this.login;
      if (isNew && withheld !== undefined) logger.warn(withheld);
      return target;
    }
    this.#turnTo(known);
    return known;
  }

  /**
   * The URL's primary at the address of `target`, if the URL's host name has that address: a connection by that name
   * could end there too. The other way round proves nothing: a name in REPLICAOF may lead elsewhere a moment later.
   */
  async #byHostName(
    target: PrimaryTarget,
    signal: AbortSignal,
  ): Promise<PrimaryTarget | undefined> {
    const { source } = this;
    if (isNamedElsewhere(source) || source.kind === "unix" || target.kind === "unix") return;
    if (source.port !== target.port || isIP(source.host) !== 0 || isIP(target.host) === 0) return;
    const over = new AbortController();
    const late = this.#clock.sleep(this.#syncTimeoutMs, AbortSignal.any([signal, over.signal]));
    const addresses = resolveHost(source.host).catch(() => []);
    const found = (await Promise.race([addresses, late])) ?? [];
    over.abort();
    return found
      .map((address) => ({ ...source, host: address }))
      .find((one) => sameEndpoint(one, target));
  }
}

function asStranger(target: PrimaryTarget): PrimaryTarget {
  return { ...target, username: undefined, password: undefined, isStranger: true };
}

/** Whom Sentinel or the cluster names; undefined where none names one. */
async function whoFrom(
  naming: PrimaryNaming,
  signal: AbortSignal,
): Promise<PrimaryTarget | undefined> {
  try {
    return await naming.locate(signal);
  } catch (error) {
    if (!(error instanceof ReplicaError)) throw error;
    return undefined;
  }
}
