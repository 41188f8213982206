import { type Settings } from "../config/settings.ts";
import { ReplicaError } from "../base/errors.ts";
import { logger } from "../base/logger.ts";
import type { PrimaryTarget } from "../config/primary-url.ts";
import type { RdbSummary } from "../rdb/checker.ts";
import type { State } from "../session/state.ts";
import type { Clock } from "../base/clock.ts";
import { Driver } from "./driver.ts";
import type { Outlet } from "./outlet.ts";
import { limits } from "../config/limits.ts";

/** The contract gives a stop 2 s. */
const STOP_LIMIT_MS = 1_500;

/** Where a replica serves, as the primary is to show it. */
export interface AnnouncedAddress {
  readonly port: number;
  /** Undefined: the address that the primary sees. */
  readonly ip: string | undefined;
}

export interface FetchOptions {
  readonly clock: Clock;
  readonly settings: Settings;
  /** Of a replica, which Sentinel then takes for the one that it is; undefined where nothing serves. */
  readonly announced?: AnnouncedAddress;
}

/**
 * Takes one snapshot from a primary, over a link of its own, and leaves: `rdb-only` where the primary
 * knows that, else by closing the link once the snapshot is whole.
 * @param onMoved is told each state of the session.
 * @returns what the snapshot is; it is verified, durable and named then.
 * @throws ReplicaError as the attempt failed; nothing is left behind then, and an earlier file of the
 * name is as it was. STOPPED where `signal` was aborted.
 */
export async function fetchSnapshot(
  target: PrimaryTarget,
  openOutlet: (driver: () => Driver) => Outlet,
  { clock, settings, announced }: FetchOptions,
  signal: AbortSignal,
  onMoved: (state: State) => void,
): Promise<RdbSummary> {
  return new Promise<RdbSummary>((resolve, reject) => {
    const outlet = openOutlet(() => driver);
    const stop = () => {
      // What has its name is kept, and soon durable.
      if (outlet.named) return;
      driver.leave();
      end(stopped());
    };
    /** A file that is just being opened is removed by then. */
    const end = (error: ReplicaError) => {
      const inTime = clock.sleep(STOP_LIMIT_MS, new AbortController().signal);
      void Promise.race([outlet.opened, inTime]).then(() => reject(error));
    };
    const driver: Driver = new Driver(
      {
        purpose: "backup",
        username: target.username ?? settings.username,
        password: target.password ?? settings.password,
        listeningPort: announced?.port,
        announceIp: announced?.ip,
        syncTimeoutMs: settings.syncTimeoutMs,
        timeoutMs: settings.timeoutMs,
        maxLineBytes: limits.handshakeLineBytes,
        tls: settings.tls,
      },
      outlet,
      clock,
      {
        note: (level, message) => logger[level](message),
        failed: (error) => {
          signal.removeEventListener("abort", stop);
          driver.leave();
          end(error);
        },
        moved: (state) => {
          onMoved(state);
          if (state.at !== "none" || outlet.summary === undefined) return;
          signal.removeEventListener("abort", stop);
          driver.leave();
          resolve(outlet.summary);
        },
      },
    );
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) return stop();
    driver.attempt(target, undefined);
  });
}

/** What a snapshot ends with that was stopped. */
export function stopped(): ReplicaError {
  return new ReplicaError("STOPPED", {
    retry: "never",
    message: "the snapshot was stopped; nothing was kept",
  });
}
