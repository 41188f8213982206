import * as fs from "node:fs";
import { dirname } from "node:path";
import { type Settings } from "../config/settings.ts";
import type { ReplicaError } from "../base/errors.ts";
import { RdbChecker, type RdbSummary } from "../rdb/checker.ts";
import type { BulkForm } from "../resp/bulk-reader.ts";
import type { FullSyncGrant } from "../session/state.ts";
import { type Disk, diskError, giveBack, PIECE_BYTES, refuseTooLarge } from "../store/disk/disk.ts";
import { PayloadFiles } from "../store/disk/payload-file.ts";
import { SnapshotWriter } from "../store/generation/snapshot.ts";
import type { Clock } from "../base/clock.ts";
import type { Driver, Keeper } from "./driver.ts";
import { limits } from "../config/limits.ts";

/** What one snapshot is taken with. */
export interface SnapshotSurroundings {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly settings: Settings;
  /** Whether the checksum is computed and compared; only a benchmark leaves it out, of a file. */
  readonly checksum?: boolean;
  /** Is told of the payload's bytes as they come. */
  readonly received?: (bytes: number) => void;
}

/** Takes a payload and nothing else: one file, or standard output. */
export interface Outlet extends Keeper {
  readonly summary: RdbSummary | undefined;
  /** True once there is no way back: the file has its name. */
  readonly named: boolean;
  /** Resolves once no file is just being opened: what is given up meanwhile is removed by then. */
  readonly opened: Promise<unknown>;
}

const nothing = () => undefined;

/**
 * To a file: a temporary one beside it, then its name, which replaces an earlier file.
 * @param place gives the file's path, once there is a snapshot for it.
 */
export function fileOutlet(
  place: (grant: FullSyncGrant, form: BulkForm) => Promise<string>,
  { disk, clock, settings, checksum, received }: SnapshotSurroundings,
  driver: () => Driver,
): Outlet {
  const giveUp = new AbortController();
  let path = "";
  let writer: SnapshotWriter | undefined;
  let summary: RdbSummary | undefined;
  let opened: Promise<unknown> = Promise.resolve();
  const open = async (grant: FullSyncGrant, form: BulkForm) => {
    path = await place(grant, form);
    const totalBytes = form.kind === "length" ? form.bytes : undefined;
    refuseTooLarge(disk, dirname(path), totalBytes);
    const file = await new PayloadFiles(disk, clock, settings.io).open(
      dirname(path),
      giveUp.signal,
    );
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
  };
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
    openSnapshot: (grant, form) => {
      const opening = open(grant, form);
      opened = opening.catch(() => undefined);
      return opening;
    },
    payload: (bytes) => {
      received?.(bytes.length);
      writer?.write(bytes);
    },
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
export function stdoutOutlet(driver: () => Driver): Outlet {
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
