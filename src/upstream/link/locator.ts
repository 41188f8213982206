import type { Settings } from "../../config/settings.ts";
import { invariant } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { describeSource, type PrimarySource } from "../../config/primary-source.ts";
import type { PrimaryTarget } from "../../config/primary-url.ts";
import type { Clock } from "../../base/clock.ts";
import { PrimaryLogin } from "./primary-login.ts";
import { Sentinels } from "./sentinel.ts";

/** Knows which primary to try next: the one that was named, or the one that Sentinel names. */
export class Locator {
  readonly source: PrimarySource;
  readonly login: PrimaryLogin;
  readonly #sentinels: Sentinels | undefined;
  #target: PrimaryTarget | undefined;
  /** Whether the next attempt takes that one without asking Sentinel. */
  #isNamed = false;
  /** The last one that was followed. */
  #followed: PrimaryTarget | undefined;

  constructor(source: PrimarySource, clock: Clock, settings: Settings) {
    this.source = source;
    this.login = new PrimaryLogin(source, settings);
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
    this.#target = target;
    this.#isNamed = true;
  }

  /**
   * The primary of the next attempt, at once where Sentinel needn't be asked. Undefined once `signal` is
   * aborted.
   * @throws ReplicaError PRIMARY_UNKNOWN as Sentinels.locate.
   */
  locate(signal: AbortSignal): PrimaryTarget | Promise<PrimaryTarget | undefined> {
    const target = this.#target;
    const isNamed = this.#isNamed;
    this.#isNamed = false;
    if (target !== undefined && (isNamed || this.#sentinels === undefined)) return target;
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

  async #ask(sentinels: Sentinels, signal: AbortSignal): Promise<PrimaryTarget | undefined> {
    const target = await sentinels.locate(signal, this.#followed);
    if (target === undefined || signal.aborted) return undefined;
    const before = this.name;
    this.#target = target;
    if (this.name !== before && target !== this.#followed)
      logger.info(`Sentinel names ${this.name}`);
    return target;
  }
}
