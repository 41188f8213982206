import { log } from "../logger.ts";
import * as fs from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { limits, type Settings } from "../config.ts";
import { ReplicaError } from "../errors.ts";
import type { PrimaryTarget } from "../primary-url.ts";
import { RdbChecker, type RdbSummary } from "../rdb/checker.ts";
import type { State } from "../session/state.ts";
import { type Disk, diskError, giveBack, PIECE_BYTES, refuseTooLarge } from "../store/disk.ts";
import { PayloadFiles } from "../store/payload-file.ts";
import { SnapshotWriter } from "../store/snapshot.ts";
import type { Clock } from "./clock.ts";
import { Driver, type Keeper } from "./driver.ts";

/** Takes a payload and nothing else: the one file of `backup`, or standard output. */
interface Outlet extends Keeper {
  readonly summary: RdbSummary | undefined;
  /** True once there is no way back: the file has its name. */
  readonly named: boolean;
  /** Resolves once no file is just being opened: what is given up meanwhile is removed by then. */
  readonly opened: Promise<unknown>;
}

/** The contract gives a stop 2 s. */
const STOP_LIMIT_MS = 1_500;

const nothing = () => undefined;

/** To a file: a temporary one beside it, then its name, which replaces an earlier backup. */
function fileOutlet(
  out: string,
  { disk, clock, settings, checksum }: BackupSurroundings,
  driver: () => Driver,
): Outlet {
  // A link to an earlier backup stays a link: its target is what is replaced.
  const path = lookAt(out) === undefined ? resolve(out) : fs.realpathSync(out);
  const giveUp = new AbortController();
  let writer: SnapshotWriter | undefined;
  let summary: RdbSummary | undefined;
  let opened: Promise<unknown> = Promise.resolve();
  return {
    get opened() {
      return opened;
    },
    get summary() {
      return summary;
    },
    get named() {
      return writer?.named ?? false;
    },
    get congested() {
      return writer?.congested ?? false;
    },
    openSnapshot: async (_grant, form) => {
      const totalBytes = form.kind === "length" ? form.bytes : undefined;
      refuseTooLarge(disk, dirname(path), totalBytes);
      const files = new PayloadFiles(disk, clock, settings.io);
      const opening = files.open(dirname(path), giveUp.signal);
      opened = opening.catch(() => undefined);
      const file = await opening;
      writer = new SnapshotWriter(disk, file, {
        ...(checksum === undefined ? {} : { checksum }),
        syncBytes: settings.rdbSyncBytes,
        maxQueuedBytes: limits.queuedBytes,
        onSynced: (bytes) => driver().step({ type: "snapshot-synced", bytes }),
        onRoom: () => driver().keeperHasRoom(),
        onFailed: (error) => driver().keeperFailed(error),
      });
      if (giveUp.signal.aborted) writer.abandon();
      return file.path;
    },
    payload: (bytes) => writer?.write(bytes),
    finishSnapshot: async () => {
      summary = await writer!.finish(path);
      return { replid: undefined, receivedOffset: 0 };
    },
    discardSnapshot: () => {
      giveUp.abort();
      writer?.abandon();
    },
    continued: nothing,
    stream: nothing,
    acknowledge: nothing,
  };
}

/** To standard output: the bytes go as they come; the exit code says whether the checksum held. */
function stdoutOutlet(driver: () => Driver): Outlet {
  const checker = new RdbChecker();
  let queue: Uint8Array[] = [];
  let queuedBytes = 0;
  let writing: Promise<void> | undefined;
  let summary: RdbSummary | undefined;
  let failed: ReplicaError | undefined;
  const fail = (cause: unknown) => {
    failed ??= diskError("writing to", "standard output", cause);
    queue = [];
    const error = failed;
    queueMicrotask(() => driver().keeperFailed(error));
  };
  const drain = async () => {
    for (let bytes = queue.shift(); bytes !== undefined && !failed; bytes = queue.shift()) {
      let at = 0;
      while (at < bytes.length) at += await writeSome(bytes.subarray(at));
      queuedBytes -= bytes.length;
      giveBack(bytes);
      driver().keeperHasRoom();
    }
  };
  return {
    named: false,
    opened: Promise.resolve(),
    get summary() {
      return summary;
    },
    get congested() {
      return queuedBytes + queue.length * PIECE_BYTES > limits.queuedBytes;
    },
    openSnapshot: async () => "standard output",
    payload: (bytes) => {
      if (failed) return;
      try {
        checker.push(bytes);
      } catch (error) {
        return fail(error);
      }
      queue.push(bytes);
      queuedBytes += bytes.length;
      writing ??= drain()
        .catch(fail)
        .finally(() => {
          writing = undefined;
        });
    },
    finishSnapshot: async () => {
      while (writing !== undefined) await writing;
      if (failed) throw failed;
      const done = checker.finish();
      await syncIfFile();
      summary = done;
      return { replid: undefined, receivedOffset: 0 };
    },
    discardSnapshot: () => {
      queue = [];
    },
    continued: nothing,
    stream: nothing,
    acknowledge: nothing,
  };
}

/** Writes to descriptor 1; a pipe that is full (EAGAIN, where somebody made it non-blocking) is waited for. */
function writeSome(bytes: Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.write(1, bytes, (error, written) => {
      if (error === null) resolve(written);
      else if (error.code === "EAGAIN") setTimeout(() => resolve(0), 5);
      else reject(error);
    });
  });
}

/** Standard output that is a file is made durable like any other. */
function syncIfFile(): Promise<void> {
  if (!fs.fstatSync(1).isFile()) return Promise.resolve();
  return new Promise((resolve, reject) =>
    fs.fdatasync(1, (error) =>
      error ? reject(diskError("syncing", "standard output", error)) : resolve(),
    ),
  );
}

/** What a backup runs in. */
export interface BackupSurroundings {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly settings: Settings;
  /** Whether the checksum is computed and compared; only a benchmark leaves it out, of a file. */
  readonly checksum?: boolean;
}

/** What a backup came to. */
export interface BackupResult {
  readonly rdb: RdbSummary;
  readonly seconds: number;
}

/**
 * Takes one snapshot to `out` (`-`: standard output).
 * @param onMoved is told each state of the session, for the progress line.
 * @throws ReplicaError as the attempt failed; nothing is left behind then, and an earlier file of
 * the name is as it was. STOPPED where `signal` was aborted.
 */
export async function backup(
  target: PrimaryTarget,
  out: string,
  surroundings: BackupSurroundings,
  signal: AbortSignal,
  onMoved: (state: State) => void,
): Promise<BackupResult> {
  const { clock, settings } = surroundings;
  if (out !== "-") refuseBadOut(out);
  const beganMs = clock.monotonicMs();
  return new Promise<BackupResult>((resolve, reject) => {
    const outlet =
      out === "-" ? stdoutOutlet(() => driver) : fileOutlet(out, surroundings, () => driver);
    const stop = () => {
      // What has its name is kept, and soon durable.
      if (outlet.named) return;
      driver.leave();
      const stopped = new ReplicaError("STOPPED", {
        retry: "never",
        message: "the backup was stopped; nothing was kept",
      });
      const inTime = clock.sleep(STOP_LIMIT_MS, new AbortController().signal);
      void Promise.race([outlet.opened, inTime]).then(() => reject(stopped));
    };
    const driver: Driver = new Driver(
      target,
      {
        purpose: "backup",
        username: target.username ?? settings.username,
        password: target.password ?? settings.password,
        listeningPort: 0,
        announceIp: undefined,
        syncTimeoutMs: settings.syncTimeoutMs,
        timeoutMs: settings.timeoutMs,
        maxLineBytes: limits.handshakeLineBytes,
        tls: settings.tls,
      },
      outlet,
      clock,
      {
        note: (level, message) => log[level](message),
        failed: (error) => {
          signal.removeEventListener("abort", stop);
          driver.leave();
          reject(error);
        },
        moved: (state) => {
          onMoved(state);
          if (state.at !== "none" || outlet.summary === undefined) return;
          signal.removeEventListener("abort", stop);
          driver.leave();
          resolve({ rdb: outlet.summary, seconds: (clock.monotonicMs() - beganMs) / 1000 });
        },
      },
    );
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) return stop();
    driver.attempt(undefined);
  });
}

function refuseBadOut(out: string): void {
  const path = resolve(out);
  const dir = dirname(path);
  const bad = (why: string) =>
    new ReplicaError("USAGE", { retry: "never", message: `${out} ${why}` });
  if (!lookAt(dir)?.isDirectory()) {
    throw bad(`can't be written: the folder ${dir} does not exist`);
  }
  const found = lookAt(path);
  if (found?.isDirectory()) {
    throw bad(`is a folder: name a file in it, such as ${basename(path)}/dump.rdb`);
  }
  // The snapshot takes the name of what is there: /dev/null would be gone.
  if (found !== undefined && !found.isFile()) {
    throw bad("is no file: give - for standard output");
  }
}

/** What lies there; undefined where nothing does, or a part of the path is no folder. */
function lookAt(path: string): fs.Stats | undefined {
  try {
    return fs.statSync(path);
  } catch {
    return undefined;
  }
}
