import { describeAddress } from "../base/address.ts";
import { usageError } from "../base/errors.ts";
import { logger } from "../base/logger.ts";
import type { Settings } from "../config/settings.ts";
import { describeSource, isNamedElsewhere, type PrimarySource } from "../config/primary-source.ts";
import { parsePrimaryUrl } from "../config/primary-url.ts";
import { DataDirectory } from "../store/generation/data-directory.ts";
import type { Disk } from "../store/disk/disk.ts";
import { refuseCluster, type StreamEnd } from "../store/generation/layout.ts";
import type { Clock } from "../base/clock.ts";
import { forReplica } from "../port/command-table.ts";
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

/** The same without a port: nobody is served, and no port is announced. */
export type AssembledAlone = Omit<Assembled, "port" | "shutdown">;

/**
 * Opens the data directory and the port, and connects them to a replica.
 * @throws ReplicaError USAGE where a cluster is kept there; as the directory or the port do; then nothing stays open.
 */
export function assemble(
  given: PrimarySource,
  disk: Disk,
  clock: Clock,
  settings: Settings,
  version: string,
  { offline, archiving }: MoreParts = {},
): Assembled {
  const kept = openKept(settings, disk, clock, archiving);
  const { directory } = kept;
  let port: Port;
  try {
    port = new Port(settings, version);
  } catch (error) {
    kept.close();
    throw error;
  }
  const surroundings = { disk, clock, settings, listeningPort: port.port };
  const { replica, status } = replicaOf(given, kept, surroundings, offline);
  const stopping = new AbortController();
  const parts = {
    status,
    replica,
    rewrite: async () => {
      if (replica.isOffline) {
        throw usageError(
          "this replica was started with --offline: it follows no primary that could be stored",
        );
      }
      const name = describeSource(given);
      const followed = isNamedElsewhere(given) ? name : replica.primary.name;
      await directory.choosePrimary(name, replica.isFollowing ? followed : null);
    },
    shutdown: () => stopping.abort(),
  };
  port.serve(forReplica(parts));
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
      const ending = AbortSignal.any([signal, stopping.signal]);
      await runParts({ replica, status, archive: kept.archive, port }, ending);
    },
    close: kept.close,
  };
}

/**
 * Opens the data directory alone, and connects it to a replica that serves nobody.
 * @throws ReplicaError USAGE where a cluster is kept there; as the directory does; then nothing stays open.
 */
export function assembleAlone(
  given: PrimarySource,
  disk: Disk,
  clock: Clock,
  settings: Settings,
  archiving: MoreParts["archiving"],
): AssembledAlone {
  const kept = openKept(settings, disk, clock, archiving);
  const surroundings = { disk, clock, settings, listeningPort: undefined };
  const { replica, status } = replicaOf(given, kept, surroundings, undefined);
  return {
    replica,
    status,
    run: async (signal) => {
      logger.info(`following ${replica.primary.name} into ${kept.directory.path}`);
      await runParts({ replica, status, archive: kept.archive, port: undefined }, signal);
    },
    close: kept.close,
  };
}

/** What a replica keeps its data in. */
interface Kept {
  readonly directory: DataDirectory;
  readonly archive: Archiving | undefined;
  close(): void;
}

function openKept(
  { dir }: Settings,
  disk: Disk,
  clock: Clock,
  archiving: MoreParts["archiving"],
): Kept {
  refuseCluster(dir);
  const directory = new DataDirectory(dir, disk, clock);
  try {
    const archive = archiving?.(directory);
    const close = () => {
      archive?.close();
      directory.close();
    };
    return { directory, archive, close };
  } catch (error) {
    directory.close();
    throw error;
  }
}

/** What a replica runs with, besides its data directory. */
interface Around {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly settings: Settings;
  readonly listeningPort: number | undefined;
}

/**
 * Makes the replica. One with a port follows whom it was told to follow there, also by an earlier run; one without could
 * not be told otherwise any more.
 */
function replicaOf(
  given: PrimarySource,
  { directory, archive }: Kept,
  { disk, clock, settings, listeningPort }: Around,
  offline: OfflineStart | undefined,
): { readonly replica: Replica; readonly status: ReplicaStatus } {
  const chosen =
    listeningPort === undefined ? undefined : directory.chosenPrimary(describeSource(given));
  const replica = new Replica(given, directory, disk, clock, settings, listeningPort);
  // Where somebody else names the primary no address is stored, only whether to follow a primary at all.
  if (typeof chosen === "string" && !isNamedElsewhere(given)) {
    replica.primary.follow(parsePrimaryUrl(chosen));
  }
  if (offline !== undefined) replica.beginOffline(offline.until);
  else if (chosen === null) replica.beginIdle();
  return { replica, status: new ReplicaStatus(replica, clock, settings, archive?.archiver) };
}

/** What runs of one replica. */
export interface RunningParts {
  readonly replica: Replica;
  readonly status: ReplicaStatus;
  readonly archive: Archiving | undefined;
  /** Undefined where it has none. */
  readonly port: Pick<Port, "stop"> | undefined;
}

/** Follows and archives until the signal aborts, then writes out everything and releases the port. */
export async function runParts(
  { replica, status, archive, port }: RunningParts,
  signal: AbortSignal,
): Promise<void> {
  const archived = new AbortController();
  const archiving = archive?.run(archived.signal);
  try {
    await replica.run(signal);
    logger.info(describeEnd(status, archive?.archiver));
  } finally {
    archived.abort();
    port?.stop();
    await archiving;
  }
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
