import { lookup } from "node:dns/promises";
import { isIP } from "../../base/address.ts";
import type { Settings } from "../../config/settings.ts";
import { invariant, ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { describeSource, type PrimarySource } from "../../config/primary-source.ts";
import { type PrimaryTarget, sameEndpoint } from "../../config/primary-url.ts";
import type { Clock } from "../../base/clock.ts";
import { PrimaryLogin } from "./primary-login.ts";
import { Sentinels } from "./sentinel.ts";

/**
 * Knows which primary to try next: the one that was named, or the one that Sentinel names. Whom REPLICAOF names is a
 * stranger, unless the start names the same one: in its URL, by an address of the URL's host name, or through Sentinel.
 */
export class Locator {
  readonly source: PrimarySource;
  readonly login: PrimaryLogin;
  readonly #clock: Clock;
  readonly #syncTimeoutMs: number;
  readonly #sentinels: Sentinels | undefined;
  #target: PrimaryTarget | undefined;
  /** Whether the next attempt takes that one without asking Sentinel. */
  #isNamed = false;
  /** The last one that was followed. */
  #followed: PrimaryTarget | undefined;

  constructor(source: PrimarySource, clock: Clock, settings: Settings) {
    this.source = source;
    this.login = new PrimaryLogin(source, settings);
    this.#clock = clock;
    this.#syncTimeoutMs = settings.syncTimeoutMs;
    if (source.kind === "sentinel") this.#sentinels = new Sentinels(source, clock, settings);
    else this.#target = source;
  }

  /** Undefined until Sentinel has named one. */
  get target(): PrimaryTarget | undefined {
    return this.#target;
  }

  /** The primary as a URL without its password; the sentinels' URL until they have named one. */
  get name(): string {
    return describeSource(this.#target ?? this.source);
  }

  /** As INFO and ROLE show it: a socket's path and 0; an empty host and 0 until Sentinel has named one. */
  get hostAndPort(): readonly [host: string, port: number] {
    const target = this.#target;
    if (target === undefined) return ["", 0];
    return target.kind === "unix" ? [target.path, 0] : [target.host, target.port];
  }

  /** Forgets the primary that was named at start: none is followed. */
  forget(): void {
    this.#target = undefined;
  }

  /** REPLICAOF: tries this one next; Sentinel, where it decides, is asked after that. */
  follow(target: PrimaryTarget): void {
    const { source } = this;
    const isSource = source.kind !== "sentinel" && sameEndpoint(source, target);
    this.#turnTo(isSource ? source : asStranger(target));
    this.#isNamed = true;
  }

  /**
   * The primary of the next attempt, at once where nobody needs to be asked. Undefined once `signal` is
   * aborted.
   * @throws ReplicaError PRIMARY_UNKNOWN as Sentinels.locate.
   */
  locate(signal: AbortSignal): PrimaryTarget | Promise<PrimaryTarget | undefined> {
    const target = this.#target;
    const isNamed = this.#isNamed;
    this.#isNamed = false;
    if (target !== undefined && (isNamed || this.#sentinels === undefined)) {
      const isInDoubt = target.isStranger === true && this.login.isGiven;
      return isInDoubt ? this.#recognise(target, isNamed, signal) : target;
    }
    invariant(this.#sentinels !== undefined, "neither a primary nor sentinels");
    return this.#ask(this.#sentinels, signal);
  }

  /** Takes the outcome of the attempt: it tells which sentinel to believe. */
  judge(isConnected: boolean): void {
    const target = this.#target;
    if (target === undefined) return;
    if (isConnected) this.#followed = target;
    this.#sentinels?.judge(target, isConnected);
  }

  #turnTo(target: PrimaryTarget): void {
    this.#target = target;
    this.login.turnTo(target);
  }

  async #ask(sentinels: Sentinels, signal: AbortSignal): Promise<PrimaryTarget | undefined> {
    const target = await sentinels.locate(signal, this.#followed);
    if (target === undefined || signal.aborted) return undefined;
    const before = this.name;
    this.#turnTo(target);
    if (this.name !== before && target !== this.#followed)
      logger.info(`Sentinel names ${this.name}`);
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
      this.#sentinels === undefined
        ? await this.#byHostName(target, signal)
        : await whoFrom(this.#sentinels, signal);
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
    if (source.kind === "sentinel" || source.kind === "unix" || target.kind === "unix") return;
    if (source.port !== target.port || isIP(source.host) !== 0 || isIP(target.host) === 0) return;
    const over = new AbortController();
    const late = this.#clock.sleep(this.#syncTimeoutMs, AbortSignal.any([signal, over.signal]));
    const addresses = lookup(source.host, { all: true }).catch(() => []);
    const found = (await Promise.race([addresses, late])) ?? [];
    over.abort();
    return found
      .map(({ address }) => ({ ...source, host: address }))
      .find((one) => sameEndpoint(one, target));
  }
}

function asStranger(target: PrimaryTarget): PrimaryTarget {
  return { ...target, username: undefined, password: undefined, isStranger: true };
}

/** Whom Sentinel names; undefined where none names one. */
async function whoFrom(
  sentinels: Sentinels,
  signal: AbortSignal,
): Promise<PrimaryTarget | undefined> {
  try {
    return await sentinels.locate(signal);
  } catch (error) {
    if (!(error instanceof ReplicaError)) throw error;
    return undefined;
  }
}
