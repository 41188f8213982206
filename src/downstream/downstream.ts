import { invariant } from "../base/errors.ts";
import { checksInvariants } from "../base/invariants.ts";
import { formatBytes } from "../base/quantity.ts";
import type { Offset } from "../base/history.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import { fileByteOf } from "../store/generation/layout.ts";
import type { Generation } from "../store/ledger/ledger.ts";
import type { SharedBlocks, SharedFile } from "../store/disk/shared-blocks.ts";
import type { Clock } from "../base/clock.ts";
import type { Stream, StreamSource } from "./streams.ts";
import type { Told } from "./told.ts";

/*
 * Invariant of every downstream, in offsets of the stream: acked ≤ sent ≤ end.
 * acked: the last byte that it acknowledged; sent: the last byte that the kernel took for it;
 * end: the last byte that may be sent, which is what is written, and the PINGs after that where no primary
 * is followed. `#checkOffsets` checks it at each move.
 */

/** What a client announced with REPLCONF before PSYNC or SYNC. */
export interface ReplconfAnnouncement {
  /** 0 where it announced none. */
  listeningPort: number;
  /** Empty where it announced none: the address that it connected from counts. */
  ip: string;
  psync2: boolean;
  /** The run id of another `replica`; empty where it announced none. */
  runId: string;
  rdbOnly: boolean;
  /** Another `replica` that has one already wants a snapshot newer than this; undefined where any will do. */
  newerThan: Offset | undefined;
}

/** The link to one downstream. The port owns the socket. */
export interface DownstreamSocket {
  /** `host:port` that it connected from. */
  readonly address: string;
  /** Hands bytes to the kernel. Returns how many it took; where that is fewer, `drained` follows. */
  offer(bytes: Uint8Array): number;
  close(): void;
}

/** What all downstreams share. */
export interface Feed {
  readonly directory: DataDirectory;
  readonly clock: Clock;
  readonly blocks: SharedBlocks;
  readonly source: StreamSource;
  readonly told: Told;
  /** Counts bytes that were handed to the kernel. */
  sent(phase: "snapshot" | "stream", bytes: number): void;
  /** Called after a downstream has acknowledged more. */
  acknowledged(): void;
  left(downstream: Downstream): void;
}

/** The resync that a downstream was granted: full, by SYNC or PSYNC, or partial after an offset. */
export type Grant =
  | { readonly kind: "full"; readonly by: "psync" | "sync"; readonly generation: Generation }
  | { readonly kind: "partial"; readonly generation: Generation; readonly offset: Offset };

/** Redis's names for a replica's state ("Redis 7.2, replication.c, replicationGetSlaveName"). */
export type DownstreamState = "send_bulk" | "rdb_transmitted" | "online";

/** How long a replica that asked for the snapshot alone may stay after it ("Redis 7.2, replicationCron"). */
const RDB_ONLY_GRACE_MS = 60_000;

/**
 * How many times `--timeout` a downstream may take no byte of what waits for it, where nothing says that it is at
 * work. One that loads its snapshot takes none of the stream for as long, and sends newlines.
 */
const STALLED_TIMEOUTS = 5;

/** What a downstream must take within `--timeout`, or all there is, so that what it reads is kept for it. */
const PACE_BYTES = 1024 * 1024;

/** One replica that is fed from the files: how far it was sent, and what it has acknowledged. */
export class Downstream {
  readonly #feed: Feed;
  readonly #socket: DownstreamSocket;
  readonly #announced: Readonly<ReplconfAnnouncement>;
  readonly #acknowledges: boolean;
  readonly #beganMs: number;
  #state: DownstreamState;
  /** When it was last heard, or went online. */
  #heardMs: number;
  /** When the kernel last took bytes for it. */
  #takenMs: number;
  #ackedOffset: Offset = 0;
  #sentOffset: Offset;
  #sentBytes = 0;
  /** The open file that it reads. */
  #file: SharedFile | undefined;
  /** The generation that it reads, pinned against removal unless it takes too little for too long. */
  #generation: Generation;
  #unpin: () => void;
  /** When it had last taken another PACE_BYTES, or all there was; and how much it had taken by then. */
  #pace: { readonly atMs: number; readonly bytes: number };
  /** The stream for which `#generation` was chosen, and the offset up to which its log is to be read. */
  #stream: Stream | undefined;
  #until: Offset = 0;
  #stalled = false;
  #endedBecause: string | undefined;
  #wake: () => void = () => undefined;

  constructor(
    feed: Feed,
    socket: DownstreamSocket,
    announced: Readonly<ReplconfAnnouncement>,
    grant: Grant,
  ) {
    this.#feed = feed;
    this.#socket = socket;
    this.#announced = announced;
    const { generation } = grant;
    this.#generation = generation;
    this.#unpin = feed.directory.pin(generation.id);
    this.#sentOffset = grant.kind === "full" ? generation.baseOffset : grant.offset;
    // SYNC comes from old replicas and redis-cli, which acknowledge nothing ("Redis, syncCommand").
    this.#acknowledges = grant.kind === "partial" || grant.by === "psync";
    this.#state = grant.kind === "full" ? "send_bulk" : "online";
    this.#beganMs = this.#heardMs = this.#takenMs = feed.clock.monotonicMs();
    this.#pace = { atMs: this.#beganMs, bytes: 0 };
  }

  /** `host:port` that it connected from. */
  get address(): string {
    return this.#socket.address;
  }

  /** The address that INFO shows. */
  get ip(): string {
    const { address } = this.#socket;
    const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
    return this.#announced.ip === "" ? host : this.#announced.ip;
  }

  /** The run id of another `replica`; empty for any other server. */
  get runId(): string {
    return this.#announced.runId;
  }

  get listeningPort(): number {
    return this.#announced.listeningPort;
  }

  get state(): DownstreamState {
    return this.#state;
  }

  get ackedOffset(): Offset {
    return this.#ackedOffset;
  }

  /** Seconds since it was last heard; 0 while it is not online, as in Redis. */
  get lagSeconds(): number {
    if (this.#state !== "online") return 0;
    return Math.floor((this.#feed.clock.monotonicMs() - this.#heardMs) / 1000);
  }

  /** Its name in the logs. */
  get name(): string {
    return this.listeningPort === 0 ? this.#socket.address : `${this.ip}:${this.listeningPort}`;
  }

  /** REPLCONF ACK. An offset past what it was sent counts as all that it was sent. */
  acknowledge(offset: Offset): void {
    if (this.#state !== "online" || offset <= this.#ackedOffset) return;
    this.#ackedOffset = Math.min(offset, this.#sentOffset);
    if (checksInvariants) this.#checkOffsets(this.#sentOffset);
    this.#feed.acknowledged();
  }

  /** See the top of this file. */
  #checkOffsets(endOffset: Offset): void {
    const [acked, sent] = [this.#ackedOffset, this.#sentOffset];
    invariant(
      acked <= sent && sent <= endOffset,
      `acked ${acked} ≤ sent ${sent} ≤ end ${endOffset} for ${this.name}`,
    );
  }

  /** It sent something, if only the newline that a replica sends while it loads. */
  heard(): void {
    this.#heardMs = this.#feed.clock.monotonicMs();
  }

  /** The kernel takes bytes again. */
  drained(): void {
    this.#stalled = false;
    this.#wake();
  }

  /** The stream has grown, or was replaced by another. */
  moved(): void {
    this.#wake();
  }

  /** Call once a second. Disconnects a replica that has been silent, or has taken nothing, for too long. */
  tick(timeoutMs: number): void {
    const nowMs = this.#feed.clock.monotonicMs();
    const silentMs = nowMs - this.#heardMs;
    const stalledMs = this.#stalled ? nowMs - this.#takenMs : 0;
    this.#keepPace(nowMs, timeoutMs);
    const isAtWork = this.#state === "online" && this.#acknowledges;
    if (stalledMs > STALLED_TIMEOUTS * timeoutMs && !isAtWork) {
      this.end(`it took nothing for ${Math.floor(stalledMs / 1000)} s`);
    }
    if (this.#state === "rdb_transmitted" && silentMs > RDB_ONLY_GRACE_MS) {
      this.end("it stayed after the snapshot that it asked for");
    }
    if (this.#state === "online" && this.#acknowledges && silentMs > timeoutMs) {
      this.end(`it acknowledged nothing for ${Math.floor(silentMs / 1000)} s`);
    }
  }

  /**
   * Lets go of the file of one that takes too little for too long, whatever it says meanwhile: pinned, it would keep
   * every later generation, too. Once it takes bytes again it goes on, if retention has left the file alone.
   */
  #keepPace(nowMs: number, timeoutMs: number): void {
    const end = this.#feed.source.stream?.endOffset ?? 0;
    const isBehind = this.#state === "send_bulk" || this.#sentOffset < end;
    if (!isBehind) this.#pace = { atMs: nowMs, bytes: this.#sentBytes };
    // While it is stalled, nothing is being read for it.
    if (!this.#stalled || nowMs - this.#pace.atMs <= timeoutMs || this.#file === undefined) return;
    this.#release();
    this.#feed.told.info(
      `downstream ${this.name} takes too little: what it reads is no longer kept for it alone`,
      { generation: this.#generation.id, offset: this.#sentOffset },
    );
  }

  /** Closes its link. @param reason for the log. */
  end(reason: string): void {
    if (this.#endedBecause !== undefined) return;
    this.#endedBecause = reason;
    this.#socket.close();
    this.#wake();
    const seconds = (this.#feed.clock.monotonicMs() - this.#beganMs) / 1000;
    this.#feed.told.info(`downstream ${this.name} left after ${seconds.toFixed(1)} s: ${reason}`, {
      bytes: this.#sentBytes,
      offset: this.#sentOffset,
    });
    this.#feed.left(this);
  }

  /** Sends what was granted, after the reply to PSYNC, until the link ends. */
  async run(): Promise<void> {
    try {
      if (this.#state === "send_bulk") await this.#sendBase();
      if (this.#state === "online") await this.#sendStream();
    } catch (error) {
      this.end(error instanceof Error ? error.message : String(error));
    } finally {
      // A link whose snapshot is complete may stay open; it needs no files any more.
      this.#release();
    }
  }

  #release(): void {
    if (this.#file !== undefined) this.#feed.blocks.close(this.#file);
    this.#file = undefined;
    this.#unpin();
    this.#unpin = () => undefined;
  }

  async #sendBase(): Promise<void> {
    const { id, rdbBytes } = this.#generation;
    this.#openBase();
    const header = Buffer.from(`$${rdbBytes}\r\n`);
    for (let at = 0; at < header.length && this.#isOpen;) {
      if (this.#stalled) await this.#woken();
      else at += this.#offer(header.subarray(at));
    }
    for (let at = 0; at < rdbBytes && this.#isOpen;) {
      if (this.#stalled) {
        await this.#woken();
        continue;
      }
      const sent = await this.#send(this.#openBase(), { from: at, end: rdbBytes });
      at += sent;
      this.#feed.sent("snapshot", sent);
    }
    if (!this.#isOpen) return;
    this.#state = this.#announced.rdbOnly ? "rdb_transmitted" : "online";
    this.heard();
    const seconds = (this.#feed.clock.monotonicMs() - this.#beganMs) / 1000;
    const rate = formatBytes(rdbBytes / Math.max(seconds, 0.001));
    this.#feed.told.info(
      `downstream ${this.name} was sent its snapshot: ${formatBytes(rdbBytes)} in ${seconds.toFixed(2)} s, ${rate}/s`,
      { generation: id, bytes: rdbBytes, seconds: Number(seconds.toFixed(3)) },
    );
    if (this.#file !== undefined) this.#feed.blocks.close(this.#file);
    this.#file = undefined;
  }

  /** Its snapshot, opened again where that was let go. @throws ReplicaError DISK_FAILED where it was removed, too. */
  #openBase(): SharedFile {
    if (this.#file !== undefined) return this.#file;
    const { directory, blocks } = this.#feed;
    const { id } = this.#generation;
    this.#unpin();
    this.#unpin = directory.pin(id);
    this.#file = blocks.open(directory.basePath(id));
    return this.#file;
  }

  async #sendStream(): Promise<void> {
    while (this.#isOpen) {
      if (this.#stalled) {
        await this.#woken();
        continue;
      }
      const stream = this.#readable();
      const end = Math.min(this.#until, stream?.endOffset ?? 0);
      if (stream === undefined || end <= this.#sentOffset) {
        await this.#woken();
        continue;
      }
      const sent = await this.#sendRange(stream, end);
      this.#sentOffset += sent;
      if (checksInvariants) this.#checkOffsets(end);
      this.#feed.sent("stream", sent);
    }
  }

  /** Sends bytes of the stream up to `end` at most. Returns how many the kernel took. */
  async #sendRange(stream: Stream, end: Offset): Promise<number> {
    if (this.#sentOffset >= stream.writtenOffset) {
      return this.#offer(stream.tail(this.#sentOffset, end));
    }
    const from = fileByteOf(this.#generation, this.#sentOffset);
    const written = fileByteOf(this.#generation, Math.min(end, stream.writtenOffset));
    return await this.#send(this.#file!, { from, end: written });
  }

  /** Returns the stream, its file open up to `#until`; undefined while nothing may be served. */
  #readable(): Stream | undefined {
    const { stream } = this.#feed.source;
    // A new generation holds the same bytes from its base offset on. The newest that has the byte is read.
    const isKnown = stream === this.#stream && this.#file !== undefined;
    if (stream !== undefined && !(isKnown && this.#sentOffset < this.#until)) {
      this.#chooseFile(stream);
      this.#stream = stream;
    }
    return stream;
  }

  #chooseFile(stream: Stream): void {
    const { directory, blocks } = this.#feed;
    const place = stream.lineage().at(this.#sentOffset);
    if (place === undefined) throw new Error("the log that it read was removed");
    const { generation, until } = place;
    this.#until = until;
    if (this.#file !== undefined && generation.id === this.#generation.id) return;
    const unpin = directory.pin(generation.id);
    this.#release();
    this.#unpin = unpin;
    this.#generation = generation;
    this.#file = blocks.open(directory.logPath(generation.id));
  }

  /** Reads a block and offers it. What the kernel doesn't take is read again later, not kept in memory. */
  async #send(file: SharedFile, range: { from: number; end: number }): Promise<number> {
    return await this.#feed.blocks.use(file, range, (bytes) => this.#offer(bytes));
  }

  #offer(bytes: Uint8Array): number {
    if (!this.#isOpen) return 0;
    const taken = this.#socket.offer(bytes);
    this.#stalled = taken < bytes.length;
    this.#sentBytes += taken;
    if (taken > 0) this.#takenMs = this.#feed.clock.monotonicMs();
    if (this.#sentBytes - this.#pace.bytes >= PACE_BYTES) {
      this.#pace = { atMs: this.#takenMs, bytes: this.#sentBytes };
    }
    return taken;
  }

  get #isOpen(): boolean {
    return this.#endedBecause === undefined;
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
