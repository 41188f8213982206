import type { Offset } from "../base/history.ts";
import type { StreamLog } from "../store/generation/stream-log.ts";

/** The log's cursors, and how its bytes become durable at once. */
type AckedLog = Pick<StreamLog, "writtenOffset" | "durableOffset" | "sync">;

export interface AckOptions {
  /** The offset that ACK tells: what is written, as Redis does, or what is durable. */
  readonly ack: "written" | "durable";
  /** The log whose cursors are told; undefined where there is none, or no history that a primary would know. */
  readonly log: () => AckedLog | undefined;
  /** Sends REPLCONF ACK. */
  readonly send: (written: Offset, durable: Offset) => void;
}

/** What is acknowledged, and when: never more than is so. FACK always tells the durable offset. */
export class Ack {
  readonly #options: AckOptions;
  /**
   * GETACKs that wait until their offsets are reached, the first and the last of them. While more of them
   * come than the disk keeps up with, the last one is never reached: the first one is answered by then.
   */
  #owed: { readonly first: Offset; readonly last: Offset } | undefined;
  #toldDurableOffset: Offset = 0;

  constructor(options: AckOptions) {
    this.#options = options;
  }

  /** Acknowledges as soon as everything up to `offset` is written, or durable where that is told. */
  ask(offset: Offset): void {
    if (this.#offset() >= offset) return this.send();
    // What waits may be of another history, in which the offsets were higher.
    this.#owed = { first: Math.min(this.#owed?.first ?? offset, offset), last: offset };
    this.#syncWhatIsOwed();
  }

  /** The log's cursors have moved. */
  moved(): void {
    const owed = this.#owed !== undefined && this.#offset() >= this.#owed.first;
    // After each data sync, so that WAITAOF on the primary waits no longer than the disk.
    const synced = (this.#options.log()?.durableOffset ?? 0) > this.#toldDurableOffset;
    if (owed || synced) this.send();
    this.#syncWhatIsOwed();
  }

  /** Tells the cursors as they are. */
  send(): void {
    this.#settle();
    const stream = this.#options.log();
    if (stream === undefined) return;
    this.#toldDurableOffset = stream.durableOffset;
    this.#options.send(this.#offset(), stream.durableOffset);
  }

  /** What waited up to here is answered; the last one waits on. */
  #settle(): void {
    if (this.#owed === undefined || this.#offset() < this.#owed.first) return;
    const { last } = this.#owed;
    this.#owed = this.#offset() >= last ? undefined : { first: last, last };
  }

  /** Another log is told of from now on; what is durable of it is nothing new. */
  begin(durableOffset: Offset): void {
    this.#toldDurableOffset = durableOffset;
  }

  /** The log is gone, and with it what was asked for. */
  forget(): void {
    this.#owed = undefined;
  }

  #offset(): Offset {
    const stream = this.#options.log();
    if (stream === undefined) return 0;
    return this.#options.ack === "durable" ? stream.durableOffset : stream.writtenOffset;
  }

  /** A GETACK that waits for a data sync: begun as soon as its bytes are written. */
  #syncWhatIsOwed(): void {
    const stream = this.#options.log();
    if (this.#options.ack !== "durable" || stream === undefined || this.#owed === undefined) return;
    if (stream.writtenOffset >= this.#owed.first) void stream.sync();
  }
}
