import * as fs from "node:fs";
import { dirname, join, resolve } from "node:path";
import { type ErrorCode, ReplicaError, usageError } from "../base/errors.ts";
import { logger } from "../base/logger.ts";
import type { PrimarySource } from "../config/primary-source.ts";
import { describeTarget, type PrimaryTarget } from "../config/primary-url.ts";
import type { RdbSummary } from "../rdb/checker.ts";
import type { KeeperEvents } from "./driver-options.ts";
import { SnapshotFetch, stopped } from "./fetch.ts";
import { type Access, groupIn, NOBODY_ELSE, notWider } from "../store/disk/access.ts";
import { readUsedMemory } from "../store/generation/snapshot-keys.ts";
import type { EarlierSnapshot } from "./room/expected-size.ts";
import { Locator } from "./link/locator.ts";
import { readFacts } from "./link/primary-facts.ts";
import { describeShard } from "./link/supply-words.ts";
import {
  FileOutlet,
  type PayloadSink,
  type SnapshotSurroundings,
  stdoutSink,
  StreamOutlet,
} from "./outlet.ts";

/** The result of a backup. */
export interface BackupResult {
  readonly rdb: RdbSummary;
  readonly seconds: number;
}

/** How a file is taken. */
export interface BackupSurroundings extends SnapshotSurroundings {
  /** Who may read the file; undefined: whoever could read an earlier file of the name, else its owner alone. */
  readonly mode?: number | undefined;
  /** Whether an earlier file of the name is replaced. */
  readonly replaces: boolean;
}

/**
 * Takes one snapshot to `out` (`-`: standard output). What can't be written is refused before the primary is asked.
 * @param onBegun receives what takes it, whose state can be looked at while it runs.
 * @throws ReplicaError as the attempt failed; nothing is left behind then, and an earlier file of
 * the name is as it was. STOPPED where `signal` was aborted.
 */
export async function backup(
  source: PrimarySource,
  out: string,
  surroundings: BackupSurroundings,
  signal: AbortSignal,
  onBegun: (fetching: SnapshotFetch) => void,
): Promise<BackupResult> {
  const { clock, settings, mode, replaces } = surroundings;
  const refuseEarlier = replaces ? () => undefined : () => refuseToReplace(out);
  if (out !== "-") {
    refuseBadOut(out);
    refuseEarlier();
  }
  const primary = new Locator(source, clock, settings);
  const target = await primary.locate(signal);
  if (target === undefined) throw stopped();
  const beganMs = clock.monotonicMs();
  // A link to an earlier backup stays a link: its target is what is replaced.
  const earlier = lookAt(out);
  const path = earlier === undefined ? resolve(out) : fs.realpathSync(out);
  const openOutlet = (events: KeeperEvents) =>
    out === "-"
      ? new StreamOutlet(stdoutSink, events)
      : // It may have come meanwhile.
        new FileOutlet(async () => ({ path, beforeNaming: refuseEarlier }), surroundings, events);
  // From the first byte on. The owner's bits stay out of it: the file is opened again, so a write-protected one
  // must not stay so.
  const readable = mode ?? (earlier === undefined ? NOBODY_ELSE : readersOf(earlier, path));
  const umask = process.umask(process.umask() | (0o077 & ~readable));
  const hear = settings.askPrimary ? hearOf(target) : undefined;
  const options = { ...surroundings, login: primary.login, hear };
  const fetching = new SnapshotFetch(target, { ...options, earlier: sizeOf(earlier, path) });
  onBegun(fetching);
  const rdb = await fetching
    .run(openOutlet, signal)
    .catch((error: unknown) => {
      throw withPrimary(error, target);
    })
    .finally(() => process.umask(umask));
  // A file is made for reading, and the umask may forbid more.
  if (mode !== undefined && out !== "-") fs.chmodSync(path, mode & 0o666);
  return { rdb, seconds: (clock.monotonicMs() - beganMs) / 1000 };
}

/**
 * Takes one snapshot to a sink, such as an object in a store.
 * @throws ReplicaError as the attempt failed; then the sink was given up, or its end failed. STOPPED where `signal` was
 * aborted.
 */
export async function backupTo(
  sink: PayloadSink,
  source: PrimarySource,
  surroundings: SnapshotSurroundings,
  signal: AbortSignal,
  onBegun: (fetching: SnapshotFetch) => void,
): Promise<BackupResult> {
  const { clock, settings } = surroundings;
  const primary = new Locator(source, clock, settings);
  const target = await primary.locate(signal);
  if (target === undefined) throw stopped();
  const beganMs = clock.monotonicMs();
  const hear = settings.askPrimary ? hearOf(target) : undefined;
  const fetching = new SnapshotFetch(target, { ...surroundings, login: primary.login, hear });
  onBegun(fetching);
  const rdb = await fetching
    .run((events) => new StreamOutlet(sink, events), signal)
    .catch((error: unknown) => {
      throw withPrimary(error, target);
    });
  return { rdb, seconds: (clock.monotonicMs() - beganMs) / 1000 };
}

/** Warns where the primary turns out to hold a part of the data only. */
function hearOf(target: PrimaryTarget): (info: string | undefined) => void {
  return (info) => {
    if (info !== undefined && readFacts(info).isClusterNode) logger.warn(describeShard(target));
  };
}

/** Where that is a snapshot, too, it is most likely one of the same data. */
function sizeOf(earlier: fs.Stats | undefined, path: string): EarlierSnapshot | undefined {
  const usedBytes = earlier && readUsedMemory(path);
  return earlier && usedBytes ? { rdbBytes: earlier.size, usedBytes } : undefined;
}

/** Who could read the earlier file, as far as they may read the one that replaces it. */
function readersOf(earlier: fs.Stats, path: string): Access {
  return notWider([earlier.mode], earlier.gid, groupIn(dirname(path)));
}

/** Errors of the link or the primary: their messages say what happened, not where. */
const ofTheLink: ReadonlySet<ErrorCode> = new Set([
  "CONNECT_FAILED",
  "LINK_LOST",
  "TIMED_OUT",
  "TLS_FAILED",
  "NOT_A_PRIMARY",
  "AUTH_FAILED",
  "PRIMARY_BUSY",
  "PRIMARY_REFUSED",
  "PROTOCOL",
  "BAD_PAYLOAD",
  "BAD_CHECKSUM",
]);

/** Names the primary in the error; the log of `replica follow` has it beside the message. */
function withPrimary(error: unknown, target: PrimaryTarget): unknown {
  if (!(error instanceof ReplicaError) || !ofTheLink.has(error.code)) return error;
  const { code, retry, message } = error;
  return new ReplicaError(code, {
    retry,
    message: `${describeTarget(target)}: ${message}`,
    cause: error,
  });
}

function refuseBadOut(out: string): void {
  const path = resolve(out);
  const dir = dirname(path);
  const bad = (why: string) => usageError(`${out} ${why}`);
  if (!lookAt(dir)?.isDirectory()) {
    throw bad(`can't be written: the folder ${dir} does not exist`);
  }
  const found = lookAt(path);
  if (found?.isDirectory()) {
    throw bad(`is a folder: name a file in it, such as ${join(out, "dump.rdb")}`);
  }
  // The snapshot replaces what is there: /dev/null would be gone.
  if (found !== undefined && !found.isFile()) {
    throw bad("isn't a regular file: give - for standard output");
  }
}

/** A link counts, also one that leads nowhere: the snapshot would take its place. */
function refuseToReplace(out: string): void {
  if (fs.lstatSync(out, { throwIfNoEntry: false }) === undefined) return;
  throw usageError(`${out} exists: give --force to replace it, or another name`);
}

/** What is there; undefined where nothing is, or a part of the path isn't a folder. */
function lookAt(path: string): fs.Stats | undefined {
  try {
    return fs.statSync(path);
  } catch {
    return undefined;
  }
}
