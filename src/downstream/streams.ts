import {
  type Offset,
  parseReplicationId,
  type ReplicationId,
  type ReplicationIdFrom,
} from "../base/history.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { Generation } from "../store/ledger/ledger.ts";
import type { Lineage } from "../store/generation/lineage.ts";
import type { StreamLog } from "../store/generation/stream-log.ts";
import type { Clock } from "../base/clock.ts";

/** The stream that downstreams are fed: what the files hold, and what follows the files. */
export interface Stream {
  /** Its history; undefined where the primary named none. */
  readonly replid: ReplicationId | undefined;
  /** The generation that a full resync sends. */
  readonly generation: Generation;
  /** The last offset in the files. */
  readonly writtenOffset: Offset;
  /** The last offset that may be sent. */
  readonly endOffset: Offset;
  /** The generations whose logs hold it. @throws ReplicaError of the database. */
  lineage(): Lineage;
  /** The bytes after offset `from` up to `to`, past the end of the files. May return fewer. */
  tail(from: Offset, to: Offset): Uint8Array;
  /** Extends the stream up to `offset`, where a downstream may have been sent that much before a restart. */
  reach(offset: Offset): void;
  /** Call once a second. Returns whether the stream has grown. */
  keepAlive(): boolean;
}

/** Where the relay finds the stream that it feeds to downstreams. */
export interface StreamSource {
  /** Undefined while nothing may be served. */
  readonly stream: Stream | undefined;
  /** The link to the primary: "down" where one is followed but not connected, "none" where none is followed. */
  readonly linkState: "up" | "down" | "none";
}

/** The stream of a primary that is followed. All of it is in the log, including its PINGs. */
export class FollowedStream implements Stream {
  readonly log: StreamLog;
  readonly #directory: DataDirectory;

  constructor(directory: DataDirectory, log: StreamLog) {
    this.#directory = directory;
    this.log = log;
  }

  get replid(): ReplicationId | undefined {
    return this.#directory.replid;
  }

  get generation(): Generation {
    return this.#directory.current!;
  }

  get writtenOffset(): Offset {
    return this.log.writtenOffset;
  }

  get endOffset(): Offset {
    return this.log.writtenOffset;
  }

  lineage(): Lineage {
    return this.#directory.lineage();
  }

  tail(): Uint8Array {
    return new Uint8Array();
  }

  reach(): void {}

  keepAlive(): boolean {
    return false;
  }
}

const PING = Buffer.from("*1\r\n$4\r\nPING\r\n");
/** Redis's repl-ping-replica-period. */
const PING_EVERY_MS = 10_000;
/** With a short `--timeout`, PINGs come more often: the downstreams probably have the same. */
const PINGS_PER_TIMEOUT = 4;

export interface EndedStreamOptions {
  readonly directory: DataDirectory;
  readonly clock: Clock;
  /** --timeout */
  readonly timeoutMs: number;
}

/**
 * The stream without a primary: what is kept up to an offset, then PINGs, which are in no file. It continues
 * in a history of its own, with the old one as its second, as a promoted replica does. The id of that history
 * is a digest of where it begins, so it is the same after a restart, and wherever the same data is served up to
 * the same offset. Where the primary named no history, the id is random.
 */
export class EndedStream implements Stream {
  readonly replid: ReplicationId;
  readonly generation: Generation;
  readonly writtenOffset: Offset;
  /** The history that the files end in; undefined where the primary named none. */
  readonly second: ReplicationId | undefined;
  readonly #options: EndedStreamOptions;
  #endOffset: Offset;
  #pingedMs: number;

  /**
   * @param generation the id of the generation whose log holds the end.
   * @param offset the end of a whole command, outside of a transaction.
   */
  constructor(options: EndedStreamOptions, generation: number, offset: Offset) {
    const { directory, clock } = options;
    const lineage = directory.lineage(generation);
    this.#options = options;
    this.generation = lineage.newest!;
    this.writtenOffset = this.#endOffset = offset;
    this.second = lineage.historyAt(offset);
    const begin = `${this.second ?? crypto.randomUUID()} ${offset}`;
    this.replid = parseReplicationId(new Bun.CryptoHasher("sha1").update(begin).digest("hex"));
    this.#pingedMs = clock.monotonicMs();
  }

  get endOffset(): Offset {
    return this.#endOffset;
  }

  get #pingEveryMs(): number {
    return Math.min(PING_EVERY_MS, this.#options.timeoutMs / PINGS_PER_TIMEOUT);
  }

  lineage(): Lineage {
    const ended: ReplicationIdFrom = { replid: this.replid, fromOffset: this.writtenOffset };
    return this.#options.directory.lineage(this.generation.id, ended);
  }

  tail(from: Offset, to: Offset): Uint8Array {
    const bytes = new Uint8Array(Math.min(to - from, 1024 * PING.length));
    const phase = (from - this.writtenOffset) % PING.length;
    for (let at = 0; at < bytes.length; at++) bytes[at] = PING[(phase + at) % PING.length]!;
    return bytes;
  }

  /** Goes no further than PINGs can have been sent since the generation became current. */
  reach(offset: Offset): void {
    const sinceMs = this.#options.clock.now() - this.generation.currentAtMs;
    const pings = 1 + Math.floor(Math.max(0, sinceMs) / this.#pingEveryMs);
    if (offset > this.writtenOffset + pings * PING.length) return;
    const whole = Math.ceil((offset - this.writtenOffset) / PING.length) * PING.length;
    this.#endOffset = Math.max(this.#endOffset, this.writtenOffset + whole);
  }

  keepAlive(): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#pingedMs < this.#pingEveryMs) return false;
    this.#pingedMs = nowMs;
    this.#endOffset += PING.length;
    return true;
  }
}
