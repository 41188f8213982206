import { describeAddress } from "../base/address.ts";
import { usageError } from "../base/errors.ts";
import { logger } from "../base/logger.ts";
import type { Settings } from "../config/settings.ts";
import { describeSource, type PrimarySource } from "../config/primary-source.ts";
import { parsePrimaryUrl } from "../config/primary-url.ts";
import { DataDirectory } from "../store/generation/data-directory.ts";
import type { Disk } from "../store/disk/disk.ts";
import type { StreamEnd } from "../store/generation/layout.ts";
import type { Clock } from "../base/clock.ts";
import { Port } from "../port/port.ts";
import { Replica } from "../replica/replica.ts";
import { ReplicaStatus } from "../replica/status.ts";
import type { Archiving } from "./archiving.ts";

/** Serve what is kept instead of following a primary: up to `until`; undefined: all of it. */
export interface OfflineStart {
  readonly until: StreamEnd | undefined;
}

/** What not every replica has. */
export interface MoreParts {
  readonly offline?: OfflineStart | undefined;
  /** Makes what carries the data directory to an archive; see `prepareArchiving`. */
  readonly archiving?: ((directory: DataDirectory) => Archiving) | undefined;
}

/** A replica with its data directory and its port, not running yet. */
export interface Assembled {
  readonly replica: Replica;
  readonly status: ReplicaStatus;
  readonly port: Port;
  /** Aborts when a client sends SHUTDOWN. */
  readonly shutdown: AbortSignal;
  /** Follows until the signal aborts, then writes out everything and releases the port. */
  run(signal: AbortSignal): Promise<void>;
  /** Releases the directory. SQLite syncs for it, on the event loop, which an exiting process need not wait for. */
  close(): void;
}

/**
 * Opens the data directory and the port, and connects them to a replica.
 * @throws ReplicaError as the directory or the port do; then nothing stays open.
 */
export function assemble(
  given: PrimarySource,
  disk: Disk,
  clock: Clock,
  settings: Settings,
  version: string,
  { offline, archiving }: MoreParts = {},
): Assembled {
  const directory = new DataDirectory(settings.dir, disk, clock);
  let port: Port;
  let archive: Archiving | undefined;
  try {
    archive = archiving?.(directory);
    port = new Port(settings, version);
  } catch (error) {
    directory.close();
    throw error;
  }
  const name = describeSource(given);
  const chosen = directory.chosenPrimary(name);
  const replica = new Replica(given, directory, disk, clock, settings, port.port);
  // With Sentinels no address is stored, only whether to follow a primary at all.
  if (typeof chosen === "string" && given.kind !== "sentinel") {
    replica.primary.follow(parsePrimaryUrl(chosen));
  }
  if (offline !== undefined) replica.beginOffline(offline.until);
  else if (chosen === null) replica.beginIdle();
  const stopping = new AbortController();
  const status = new ReplicaStatus(replica, clock, settings, archive?.archiver);
  port.serve(status, replica, {
    rewrite: async () => {
      if (replica.isOffline) {
        throw usageError(
          "this replica was started with --offline: it follows no primary that could be stored",
        );
      }
      const followed = given.kind === "sentinel" ? name : replica.primary.name;
      await directory.choosePrimary(name, replica.isFollowing ? followed : null);
    },
    shutdown: () => stopping.abort(),
  });
  return {
    replica,
    status,
    port,
    shutdown: stopping.signal,
    run: async (signal) => {
      const address = describeAddress({ host: settings.bind, port: port.port });
      logger.info(
        replica.isFollowing
          ? `following ${replica.primary.name} into ${directory.path}, serving ${address}`
          : `serving ${directory.path} without a primary, at ${address}`,
        { pid: process.pid },
      );
      const archived = new AbortController();
      const archiving = archive?.run(archived.signal);
      try {
        await replica.run(AbortSignal.any([signal, stopping.signal]));
        logger.info(describeEnd(status, archive?.archiver));
      } finally {
        archived.abort();
        port.stop();
        await archiving;
      }
    },
    close: () => directory.close(),
  };
}

function describeEnd(
  { currentGeneration, cursors }: ReplicaStatus,
  archiver: Archiving["archiver"] | undefined,
): string {
  if (currentGeneration === undefined) return "stopped; nothing is kept yet";
  const end = `stopped; durable up to offset ${cursors.durable}`;
  const lacks = archiver && whatArchiveLacks(archiver);
  return lacks === undefined ? end : `${end}; ${lacks}`;
}

/** In words; undefined where the database doesn't tell: a stop must not fail by that. */
function whatArchiveLacks(archiver: Archiving["archiver"]): string | undefined {
  try {
    const { lagBytes, lagBaseBytes, stoppedCurrent } = archiver.lag();
    if (lagBytes + lagBaseBytes === 0) return "the archive has all of it";
    if (stoppedCurrent !== undefined)
      return `the archive lacks some of generation ${stoppedCurrent}`;
    return "the next start sends the archive what it lacks";
  } catch {
    return undefined;
  }
}
