import { createHash } from "node:crypto";
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

/** The stream that downstreams are fed: what the files hold of it, and what follows that. */
export interface Stream {
  /** The history that it is in; undefined where nobody named one. */
  readonly replid: ReplicationId | undefined;
  /** Where a full resync begins. */
  readonly generation: Generation;
  /** The last offset that the files hold. */
  readonly writtenOffset: Offset;
  /** The last offset that may be sent. */
  readonly endOffset: Offset;
  /** The generations whose logs hold it. @throws ReplicaError of the database. */
  lineage(): Lineage;
  /** The bytes behind `from` up to `to`, where the files hold none of them. */
  tail(from: Offset, to: Offset): Uint8Array;
  /** What one who was here before may have seen of it is part of it, from now on. */
  reach(offset: Offset): void;
  /** Once a second: whether it has become longer. */
  keepAlive(): boolean;
}

/** What a primary sends: it is in the log, its PINGs too. */
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
/** repl-ping-replica-period, where `--timeout` isn't so short that its peers' can't be trusted to be longer. */
const PING_EVERY_MS = 10_000;
const PINGS_PER_TIMEOUT = 4;

export interface EndedStreamOptions {
  readonly directory: DataDirectory;
  readonly clock: Clock;
  /** --timeout: the downstreams' own is not likely to be shorter. */
  readonly timeoutMs: number;
}

/**
 * What is kept up to an offset, and nothing of a primary behind it. As a promoted replica does, it goes on
 * in a history of its own from there, with the old one as its second, and with PINGs, which are in no file.
 * The history's id is a digest of where it begins: what it holds is the same wherever the same is served
 * up to the same offset, after a restart too. Where nobody named the old one, it is a new one each time.
 */
export class EndedStream implements Stream {
  readonly replid: ReplicationId;
  readonly generation: Generation;
  readonly writtenOffset: Offset;
  /** The history that what is kept ends in; undefined where nobody named one. */
  readonly second: ReplicationId | undefined;
  readonly #options: EndedStreamOptions;
  #endOffset: Offset;
  #pingedMs: number;

  /**
   * @param generation the id of the one whose log holds the end.
   * @param offset the end: of a whole command, outside of transactions.
   */
  constructor(options: EndedStreamOptions, generation: number, offset: Offset) {
    const { directory, clock } = options;
    const lineage = directory.lineage(generation);
    this.#options = options;
    this.generation = lineage.newest!;
    this.writtenOffset = this.#endOffset = offset;
    this.second = lineage.historyAt(offset);
    const begin = `${this.second ?? crypto.randomUUID()} ${offset}`;
    this.replid = parseReplicationId(createHash("sha1").update(begin).digest("hex"));
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

  /** At most as far as PINGs can have come since the generation began. */
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
