import { logger } from "../base/logger.ts";
import { formatBytes } from "../base/quantity.ts";
import type { Offset } from "../base/history.ts";
import { simple } from "../resp/reply.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { Generation } from "../store/ledger/ledger.ts";
import type { SharedBlocks, SharedFile } from "../store/disk/shared-blocks.ts";
import type { Clock } from "../base/clock.ts";
import type { Stream } from "./streams.ts";
import { positionIn } from "../store/generation/layout.ts";

/** What a client has said of itself with REPLCONF. */
export interface Announced {
  listeningPort: number;
  /** Empty where the address that it came from counts. */
  ip: string;
  psync2: boolean;
  rdbOnly: boolean;
}

/** The link to one; the port's. */
export interface DownstreamSocket {
  /** `host:port` that it came from. */
  readonly address: string;
  /** Hands bytes to the kernel; how many it took. Where it took less, `drained` follows. */
  offer(bytes: Uint8Array): number;
  close(): void;
}

/** What all of them read from. */
export interface Feed {
  readonly directory: DataDirectory;
  readonly clock: Clock;
  readonly blocks: SharedBlocks;
  /** Undefined while none is to be relied on. */
  stream(): Stream | undefined;
  /** Counts what was handed to the kernel. */
  sent(phase: "snapshot" | "stream", bytes: number): void;
  /** It has acknowledged more. */
  acknowledged(): void;
  left(downstream: Downstream): void;
}

/** What it is given: all, by SYNC or PSYNC, or what lies behind an offset. */
export type Grant =
  | { readonly kind: "full"; readonly by: "psync" | "sync"; readonly generation: Generation }
  | { readonly kind: "partial"; readonly generation: Generation; readonly offset: Offset };

/** Redis's words for a replica's state ("Redis 7.2, replication.c, replicationGetSlaveName"). */
export type DownstreamState = "send_bulk" | "rdb_transmitted" | "online";

/** So long may one that asked for the snapshot alone take to leave ("Redis 7.2, replicationCron"). */
const RDB_ONLY_GRACE_MS = 60_000;

/** A snapshot of which nobody takes a byte for so many `--timeout`s is kept for nobody. */
const STALLED_TIMEOUTS = 5;

/** A replica that is fed from the files: where it is in them, and what it has acknowledged. */
export class Downstream {
  readonly #feed: Feed;
  readonly #socket: DownstreamSocket;
  readonly #announced: Readonly<Announced>;
  readonly #acknowledges: boolean;
  readonly #beganMs: number;
  #state: DownstreamState;
  /** When it was last heard, or began to be waited for. */
  #heardMs: number;
  /** When the kernel last took something for it. */
  #takenMs: number;
  #ackedOffset: Offset = 0;
  /** The last byte of the stream that the kernel has taken. */
  #offset: Offset;
  #sentBytes = 0;
  /** What it reads now, and what keeps that from being removed. */
  #file: SharedFile | undefined;
  #generation: Generation;
  #unpin: () => void;
  /** The stream that was fed when it was looked up where to read, and up to where that holds. */
  #stream: Stream | undefined;
  #until: Offset = 0;
  #stalled = false;
  #endedBecause: string | undefined;
  #wake: () => void = () => undefined;

  constructor(feed: Feed, socket: DownstreamSocket, announced: Readonly<Announced>, grant: Grant) {
    this.#feed = feed;
    this.#socket = socket;
    this.#announced = announced;
    const { generation } = grant;
    this.#generation = generation;
    this.#unpin = feed.directory.pin(generation.id);
    this.#offset = grant.kind === "full" ? generation.baseOffset : grant.offset;
    // One that says SYNC may be an old one, or redis-cli, which acknowledge nothing ("Redis, syncCommand").
    this.#acknowledges = grant.kind === "partial" || grant.by === "psync";
    this.#state = grant.kind === "full" ? "send_bulk" : "online";
    this.#beganMs = this.#heardMs = this.#takenMs = feed.clock.monotonicMs();
  }

  /** Where it listens, as INFO shows it. */
  get ip(): string {
    const { address } = this.#socket;
    const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
    return this.#announced.ip === "" ? host : this.#announced.ip;
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

  /** Seconds since it was heard last; 0 while it is not online, as in Redis. */
  get lagSeconds(): number {
    if (this.#state !== "online") return 0;
    return Math.floor((this.#feed.clock.monotonicMs() - this.#heardMs) / 1000);
  }

  /** How the logs name it. */
  get name(): string {
    return this.listeningPort === 0 ? this.#socket.address : `${this.ip}:${this.listeningPort}`;
  }

  /** REPLCONF ACK: never more than it was sent. */
  acknowledge(offset: Offset): void {
    if (this.#state !== "online" || offset <= this.#ackedOffset) return;
    this.#ackedOffset = Math.min(offset, this.#offset);
    this.#feed.acknowledged();
  }

  /** Something came from it, if only the newline that one sends while it loads. */
  heard(): void {
    this.#heardMs = this.#feed.clock.monotonicMs();
  }

  /** The kernel takes more again. */
  drained(): void {
    this.#stalled = false;
    this.#wake();
  }

  /** More was written, or another log has taken the place of the one that was followed. */
  moved(): void {
    this.#wake();
  }

  /** Once a second: one that is silent for too long is let go. */
  tick(timeoutMs: number): void {
    const silentMs = this.#feed.clock.monotonicMs() - this.#heardMs;
    const stalledMs = this.#feed.clock.monotonicMs() - this.#takenMs;
    if (this.#state === "send_bulk" && stalledMs > STALLED_TIMEOUTS * timeoutMs) {
      this.end(`it took no byte of its snapshot for ${Math.floor(stalledMs / 1000)} s`);
    }
    if (this.#state === "rdb_transmitted" && silentMs > RDB_ONLY_GRACE_MS) {
      this.end("it has the snapshot that it asked for, and stayed");
    }
    if (this.#state === "online" && this.#acknowledges && silentMs > timeoutMs) {
      this.end(`it acknowledged nothing for ${Math.floor(silentMs / 1000)} s`);
    }
  }

  /** Closes its link. */
  end(reason: string): void {
    if (this.#endedBecause !== undefined) return;
    this.#endedBecause = reason;
    this.#socket.close();
    this.#wake();
    const seconds = (this.#feed.clock.monotonicMs() - this.#beganMs) / 1000;
    logger.info(`downstream ${this.name} left after ${seconds.toFixed(1)} s: ${reason}`, {
      bytes: this.#sentBytes,
      offset: this.#offset,
    });
    this.#feed.left(this);
  }

  /** Sends what was granted, from behind its reply on, until the link ends. */
  async run(): Promise<void> {
    try {
      if (this.#state === "send_bulk") await this.#sendBase();
      if (this.#state === "online") await this.#sendStream();
    } catch (error) {
      this.end(error instanceof Error ? error.message : String(error));
    } finally {
      // One that has the snapshot alone still has its link.
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
    const file = this.#feed.blocks.open(this.#feed.directory.basePath(id));
    this.#file = file;
    const header = Buffer.from(`$${rdbBytes}\r\n`);
    for (let at = 0; at < header.length && this.#isOpen;) {
      if (this.#stalled) await this.#woken();
      else at += this.#offer(header.subarray(at));
    }
    for (let at = 0; at < rdbBytes && this.#isOpen;) {
      const sent = await this.#send(file, { from: at, end: rdbBytes });
      at += sent;
      this.#feed.sent("snapshot", sent);
    }
    if (!this.#isOpen) return;
    this.#state = this.#announced.rdbOnly ? "rdb_transmitted" : "online";
    this.heard();
    const seconds = (this.#feed.clock.monotonicMs() - this.#beganMs) / 1000;
    const rate = formatBytes(rdbBytes / Math.max(seconds, 0.001));
    logger.info(
      `downstream ${this.name} was sent its snapshot: ${formatBytes(rdbBytes)} in ${seconds.toFixed(2)} s, ${rate}/s`,
      { generation: id, bytes: rdbBytes, seconds },
    );
    this.#feed.blocks.close(file);
    this.#file = undefined;
  }

  async #sendStream(): Promise<void> {
    while (this.#isOpen) {
      const stream = this.#readable();
      const end = Math.min(this.#until, stream?.endOffset ?? 0);
      if (stream === undefined || end <= this.#offset) {
        await this.#woken();
        continue;
      }
      const sent = await this.#sendRange(stream, end);
      this.#offset += sent;
      this.#feed.sent("stream", sent);
    }
  }

  /** Sends from behind its offset on, at most up to `end`; how many bytes the kernel took. */
  async #sendRange(stream: Stream, end: Offset): Promise<number> {
    if (this.#offset >= stream.writtenOffset) {
      if (this.#stalled) await this.#woken();
      return this.#stalled ? 0 : this.#offer(stream.tail(this.#offset, end));
    }
    const kept = Math.min(end, stream.writtenOffset);
    return await this.#send(this.#file!, {
      from: positionIn(this.#generation, this.#offset),
      end: positionIn(this.#generation, kept),
    });
  }

  /** The stream, whose file is open up to `#until`; undefined while there is none. */
  #readable(): Stream | undefined {
    const stream = this.#feed.stream();
    // A new generation holds the same bytes from its own beginning on: the newest that does is read.
    if (stream !== undefined && (stream !== this.#stream || this.#offset >= this.#until)) {
      this.#goOn(stream);
      this.#stream = stream;
    }
    return stream;
  }

  #goOn(stream: Stream): void {
    const { directory, blocks } = this.#feed;
    const place = stream.lineage().at(this.#offset);
    if (place === undefined) throw new Error("the log that it read is gone");
    const { generation, until } = place;
    this.#until = until;
    if (this.#file !== undefined && generation.id === this.#generation.id) return;
    const unpin = directory.pin(generation.id);
    this.#release();
    this.#unpin = unpin;
    this.#generation = generation;
    this.#file = blocks.open(directory.logPath(generation.id));
  }

  /** Reads a block and hands it on; what the kernel doesn't take is read anew, not held. */
  async #send(file: SharedFile, range: { from: number; end: number }): Promise<number> {
    if (this.#stalled) await this.#woken();
    if (this.#stalled || !this.#isOpen) return 0;
    return await this.#feed.blocks.use(file, range, (bytes) => this.#offer(bytes));
  }

  #offer(bytes: Uint8Array): number {
    if (!this.#isOpen) return 0;
    const taken = this.#socket.offer(bytes);
    this.#stalled = taken < bytes.length;
    this.#sentBytes += taken;
    if (taken > 0) this.#takenMs = this.#feed.clock.monotonicMs();
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

/** What PSYNC is answered with; nothing for SYNC. */
export function grantReply(
  grant: Grant,
  replid: string | undefined,
  psync2: boolean,
): Uint8Array | undefined {
  if (grant.kind === "partial") return simple(psync2 ? `CONTINUE ${replid}` : "CONTINUE");
  if (grant.by === "sync") return undefined;
  return simple(`FULLRESYNC ${replid} ${grant.generation.baseOffset}`);
}
