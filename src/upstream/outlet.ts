import * as fs from "node:fs";
import { dirname } from "node:path";
import type { Clock } from "../base/clock.ts";
import { ReplicaError } from "../base/errors.ts";
import { type Settings } from "../config/settings.ts";
import { RdbChecker, type RdbSummary } from "../rdb/checker.ts";
import type { RdbHeader } from "../rdb/header.ts";
import { type Disk, diskError, giveBack, PIECE_BYTES, refuseTooLarge } from "../store/disk/disk.ts";
import { PayloadFiles } from "../store/disk/payload-file.ts";
import { SnapshotWriter } from "../store/generation/snapshot.ts";
import type { GrantedResync, KeeperEvents, SnapshotKeeper } from "./driver-options.ts";
import { limits } from "../config/limits.ts";
import { RoomGate, type RoomFor } from "./room/gate.ts";

/** What one snapshot is taken with. */
export interface SnapshotSurroundings {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly settings: Settings;
  /** Whether a file's checksum is computed and compared; only a benchmark leaves it out. */
  readonly checksum?: boolean;
  /** Counts the payload's bytes as they come. */
  readonly received?: { snapshot: number };
  /** Opens its file; undefined for a single one. */
  readonly files?: PayloadFiles;
}

/** Where a file goes. */
export interface Placed {
  readonly path: string;
  /** What makes room for the payload; undefined where the disk is to say that there is none. */
  readonly roomFor?: RoomFor;
  /** Called right before the file gets its name; what it throws ends the snapshot. */
  readonly beforeNaming?: () => void;
  /** Called with what writes the file, before anything is written. */
  readonly onWriter?: (writer: SnapshotWriter) => void;
}

/** Takes one snapshot and nothing after it: to a file, or to standard output. */
export interface Outlet extends SnapshotKeeper {
  /** What the snapshot is; undefined until it is verified and durable. */
  readonly summary: RdbSummary | undefined;
  /** The snapshot's header, once it has come whole. */
  readonly header: RdbHeader | undefined;
  /** True once there is no way back: the file has its name. */
  readonly named: boolean;
  /** Resolves once no file is just being opened; what is given up meanwhile is removed by then. */
  readonly opened: Promise<unknown>;
}

/** To a file: a temporary one beside it, then its name, which replaces an earlier file. */
export class FileOutlet implements Outlet {
  readonly #place: (resync: GrantedResync) => Promise<Placed>;
  readonly #surroundings: SnapshotSurroundings;
  readonly #events: KeeperEvents;
  readonly #giveUp = new AbortController();
  #path = "";
  #writer: SnapshotWriter | undefined;
  #gate: RoomGate | undefined;
  summary: RdbSummary | undefined;
  opened: Promise<unknown> = Promise.resolve();

  /** @param place says where the file goes, once there is a snapshot for it. */
  constructor(
    place: (resync: GrantedResync) => Promise<Placed>,
    surroundings: SnapshotSurroundings,
    events: KeeperEvents,
  ) {
    this.#place = place;
    this.#surroundings = surroundings;
    this.#events = events;
  }

  get header(): RdbHeader | undefined {
    return this.#writer?.header;
  }

  get named(): boolean {
    return this.#writer?.named ?? false;
  }

  get congested(): boolean {
    return this.#gate?.isWaiting === true || (this.#writer?.congested ?? false);
  }

  open(resync: GrantedResync): Promise<string> {
    const opening = this.#open(resync);
    this.opened = opening.catch(() => undefined);
    return opening;
  }

  async #open(resync: GrantedResync): Promise<string> {
    const { disk, clock, settings, checksum } = this.#surroundings;
    const { path, roomFor, beforeNaming, onWriter } = await this.#place(resync);
    this.#path = path;
    const dir = dirname(path);
    const totalBytes = resync.form.kind === "length" ? resync.form.bytes : undefined;
    refuseTooLarge(disk, dir, totalBytes);
    const { files = new PayloadFiles(disk, clock, settings.io) } = this.#surroundings;
    const file = await files.open(dir, this.#giveUp.signal);
    const onRoom = () => this.#events.hasRoom();
    const writer = (this.#writer = new SnapshotWriter(disk, file, {
      ...(checksum === undefined ? {} : { checksum }),
      totalBytes,
      syncBytes: settings.rdbSyncBytes,
      maxQueuedBytes: limits.queuedBytes,
      ...(beforeNaming === undefined ? {} : { beforeNaming }),
      onRoom,
      onFailed: (error) => this.#events.failed(error),
    }));
    if (roomFor !== undefined) this.#gate = new RoomGate({ totalBytes, roomFor, writer, onRoom });
    if (this.#giveUp.signal.aborted) writer.abandon();
    else onWriter?.(writer);
    return file.path;
  }

  payload(bytes: Uint8Array): void {
    const { received } = this.#surroundings;
    if (received !== undefined) received.snapshot += bytes.length;
    if (this.#gate === undefined) this.#writer?.write(bytes);
    else this.#gate.pass(bytes);
  }

  async finish(): Promise<undefined> {
    await this.#gate?.settled();
    this.summary = await this.#writer!.finish(this.#path);
  }

  discard(): void {
    this.#giveUp.abort();
    this.#gate?.giveUp();
    this.#writer?.abandon();
  }
}

/** What takes a payload as it comes. */
export interface PayloadSink {
  /** What people call it. */
  readonly name: string;
  /** The most bytes that it takes; undefined: no limit is known. */
  readonly maxBytes?: number;
  /** Takes bytes, of which no view is kept; resolves once it can take more. */
  write(bytes: Uint8Array): Promise<void>;
  /** Called once, behind the last byte of a payload that is verified; it counts once this resolves. */
  end(): Promise<void>;
  /** Whether there is no way back. */
  isEnded(): boolean;
  /** Gives up what it took, unless there is no way back; resolves once nothing more happens. May be called again. */
  giveUp(): Promise<void>;
}

/** To a sink: the bytes go as they come, and the end only once the checksum holds. */
export class StreamOutlet implements Outlet {
  readonly #sink: PayloadSink;
  readonly #events: KeeperEvents;
  readonly #checker = new RdbChecker();
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writing: Promise<void> | undefined;
  #failure: ReplicaError | undefined;
  summary: RdbSummary | undefined;
  opened: Promise<unknown> = Promise.resolve();

  constructor(sink: PayloadSink, events: KeeperEvents) {
    this.#sink = sink;
    this.#events = events;
  }

  get header(): RdbHeader | undefined {
    return this.#checker.header;
  }

  get named(): boolean {
    return this.#sink.isEnded();
  }

  get congested(): boolean {
    return this.#queuedBytes + this.#queue.length * PIECE_BYTES > limits.queuedBytes;
  }

  async open({ form }: GrantedResync): Promise<string> {
    const { name, maxBytes = Infinity } = this.#sink;
    if (form.kind !== "length" || form.bytes <= maxBytes) return name;
    throw new ReplicaError("DISK_FULL", {
      retry: "never",
      message: `${name} takes ${maxBytes} bytes at most, and the snapshot has ${form.bytes}: write it to a file`,
    });
  }

  payload(bytes: Uint8Array): void {
    if (this.#failure !== undefined) return;
    try {
      this.#checker.push(bytes);
    } catch (error) {
      return this.#fail(error);
    }
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    this.#writing ??= this.#drain()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#writing = undefined;
      });
  }

  async #drain(): Promise<void> {
    while (this.#failure === undefined) {
      const bytes = this.#queue.shift();
      if (bytes === undefined) return;
      await this.#sink.write(bytes);
      this.#queuedBytes -= bytes.length;
      giveBack(bytes);
      this.#events.hasRoom();
    }
  }

  #fail(cause: unknown): void {
    this.#failure ??= diskError("writing to", this.#sink.name, cause);
    this.#queue = [];
    const error = this.#failure;
    queueMicrotask(() => this.#events.failed(error));
  }

  async finish(): Promise<undefined> {
    while (this.#writing !== undefined) await this.#writing;
    if (this.#failure !== undefined) throw this.#failure;
    const summary = this.#checker.finish();
    await this.#sink.end();
    this.summary = summary;
  }

  discard(): void {
    this.#queue = [];
    if (!this.named) this.opened = this.#sink.giveUp().catch(() => undefined);
  }
}

/** Standard output: the exit code says whether the checksum held. */
export const stdoutSink: PayloadSink = {
  name: "standard output",
  write: async (bytes) => {
    for (let at = 0; at < bytes.length;) at += await writeSome(bytes.subarray(at));
  },
  end: () => syncIfFile(),
  isEnded: () => false,
  giveUp: async () => undefined,
};

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
