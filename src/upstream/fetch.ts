import type { Settings } from "../config/settings.ts";
import { invariant, ReplicaError } from "../base/errors.ts";
import type { Offset } from "../base/history.ts";
import { logger } from "../base/logger.ts";
import type { PrimaryTarget } from "../config/primary-url.ts";
import type { RdbSummary } from "../rdb/checker.ts";
import { failedOnInfo } from "../session/info-reply.ts";
import type { State } from "../session/state.ts";
import type { Clock } from "../base/clock.ts";
import { Driver } from "./driver.ts";
import type { KeeperEvents, Weigh } from "./driver-options.ts";
import { type AnnouncedAddress, driverOptions } from "./driver-options.ts";
import type { PrimaryLogin } from "./link/primary-login.ts";
import type { Outlet } from "./outlet.ts";
import { SnapshotForm, warnOfForm, withForm } from "./rdb-for.ts";
import { type EarlierSnapshot, expectedBytes } from "./room/expected-size.ts";
import { readPrimarySize } from "./room/primary-size.ts";
import { usedMemoryIn } from "../store/generation/snapshot-keys.ts";

/** A stop may take 2 s in all. */
const STOP_LIMIT_MS = 1_500;

export interface FetchOptions {
  readonly clock: Clock;
  readonly login: PrimaryLogin;
  readonly settings: Settings;
  /** The replica that the snapshot is for, so that Sentinel recognises it; undefined for a backup. */
  readonly announced?: AnnouncedAddress | undefined;
  /** Takes what the primary says of itself before it is asked for the snapshot; undefined: it isn't asked. */
  readonly hear?: Weigh | undefined;
  /** An earlier snapshot of the same data, by which the size of this one is estimated. */
  readonly earlier?: EarlierSnapshot | undefined;
}

/**
 * Takes one snapshot from a primary, over a link of its own, and leaves: with `rdb-only` where the
 * primary knows that, else by closing the link once the snapshot is complete.
 */
export class SnapshotFetch {
  readonly #target: PrimaryTarget;
  readonly #clock: Clock;
  readonly #settings: Settings;
  readonly #driver: Driver;
  readonly #over = Promise.withResolvers<void>();
  readonly #hear: Weigh | undefined;
  readonly #earlier: EarlierSnapshot | undefined;
  #datasetBytes: number | undefined;
  #outlet: Outlet | undefined;
  #grantedAtMs = 0;

  constructor(target: PrimaryTarget, options: FetchOptions) {
    const { clock, settings, announced } = options;
    this.#hear = options.hear;
    this.#earlier = options.earlier;
    this.#target = target;
    this.#clock = clock;
    this.#settings = settings;
    this.#driver = new Driver(driverOptions("snapshot-only", options, settings, announced), clock, {
      note: (level, message) => logger[level](message),
      failed: (error, from) => this.#over.reject(withForm(named(error, from), from, settings)),
      failedUnlinked: () => undefined,
      moved: (state) => {
        if (state.at === "receive-bulk-header") this.#grantedAtMs = this.#clock.now();
        if (state.at === "none") this.#over.resolve();
      },
      isAwaited: () => true,
    });
  }

  /** Where its session stands. */
  get state(): State {
    return this.#driver.state;
  }

  /** The snapshot's header, once it has come whole. */
  get header(): Outlet["header"] {
    return this.#outlet?.header;
  }

  /** How large the snapshot is likely to be; undefined where nothing tells. */
  expectedBytes(): number | undefined {
    const { header } = this;
    return expectedBytes(header && usedMemoryIn(header), this.#datasetBytes, this.#earlier);
  }

  #hears(hear: Weigh): Weigh {
    return (info) => {
      if (info !== undefined) this.#datasetBytes = readPrimarySize(info, undefined).datasetBytes;
      hear(info);
    };
  }

  /** Gives it up where what comes can't be kept. */
  refuse(error: ReplicaError): void {
    this.#driver.failed(error);
  }

  /** When the primary granted the snapshot, in milliseconds since 1970; 0 before that. */
  get grantedAtMs(): number {
    return this.#grantedAtMs;
  }

  /**
   * Does it, once.
   * @param openOutlet makes what takes the payload, and reports to `events`.
   * @param newerThan see `AttemptTerms`.
   * @returns what the snapshot is; it is verified, durable and named then.
   * @throws ReplicaError as the attempt failed; nothing is left behind then, and an earlier file of the
   * name is as it was. STOPPED where `signal` was aborted.
   */
  async run(
    openOutlet: (events: KeeperEvents) => Outlet,
    signal: AbortSignal,
    newerThan?: Offset,
  ): Promise<RdbSummary> {
    const outlet = (this.#outlet = openOutlet(this.#driver));
    const stop = () => {
      // What has its name is kept, and soon durable.
      if (outlet.named) return;
      this.#over.reject(stopped());
      // At once, so that nothing takes its name in between.
      this.#driver.leave();
    };
    signal.addEventListener("abort", stop, { once: true });
    try {
      if (signal.aborted) stop();
      else {
        const hear = this.#hear && this.#hears(this.#hear);
        const weigh = new SnapshotForm(this.#settings).weigh(undefined, hear);
        this.#driver.attempt(this.#target, outlet, undefined, undefined, { newerThan, weigh });
      }
      await this.#over.promise;
      invariant(outlet.summary !== undefined, "a session that ends by itself has its snapshot");
      warnOfForm(outlet.summary.header, this.#settings);
      return outlet.summary;
    } catch (error) {
      this.#driver.leave();
      await this.#untilNothingOpens(outlet);
      throw error;
    } finally {
      signal.removeEventListener("abort", stop);
      this.#driver.leave();
    }
  }

  /** A file that is just being opened is removed by then, unless the disk hangs. */
  async #untilNothingOpens({ opened }: Outlet): Promise<void> {
    const inTime = new AbortController();
    await Promise.race([opened, this.#clock.sleep(STOP_LIMIT_MS, inTime.signal)]);
    inTime.abort();
  }
}

/** The error of a snapshot that was stopped. */
export function stopped(): ReplicaError {
  return new ReplicaError("STOPPED", {
    retry: "never",
    message: "the snapshot was stopped; nothing was kept",
  });
}

/** Names what goes without INFO, where that alone was not answered. */
function named(error: ReplicaError, from: State): ReplicaError {
  if (!failedOnInfo(error, from)) return error;
  const { code, retry, message } = error;
  return new ReplicaError(code, {
    retry,
    message: `${message}; --ask-primary no does without INFO`,
    cause: error,
  });
}
