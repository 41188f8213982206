import { smallRdb } from "../integration/bad-input-rig.ts";
import type { FakePeer } from "./fake-peer.ts";
import { bulkPayload, type FakePrimary, fakePrimary } from "./fake-primary.ts";
import { encodeCommand } from "./resp.ts";
import { certificates } from "./tls.ts";

/** Generous: a replica may be slow on a busy machine. */
const LINK_TIMEOUT_MS = 120_000;

/** The offsets of a REPLCONF ACK. */
export interface Acknowledged {
  readonly ack: number;
  readonly fack: number | undefined;
}

/** A link that receives the stream. */
interface Fed {
  readonly peer: FakePeer;
  sentOffset: number;
}

/**
 * A primary with a history and a backlog: it grants a partial resync where these allow it, and otherwise
 * a full one. The test knows every byte that it sent.
 */
export class ModelPrimary implements AsyncDisposable {
  readonly #fake: FakePrimary;
  /** The replication ids, each with its first offset; the last one is current. */
  #histories: { readonly replid: string; readonly fromOffset: number }[] = [];
  #ids = 0;
  /** The backlog holds the stream after `#backlogFrom`. */
  #backlogFrom: number;
  #backlog = Buffer.alloc(0);
  readonly #fed = new Set<Fed>();
  readonly counts = { full: 0, partial: 0 };
  /** Called with each ACK of a replica. */
  onAcknowledged: (said: Acknowledged) => void = () => undefined;

  /** Resets the link after so many bytes of each payload; undefined: sends it whole. */
  breaksPayloadAt: number | undefined;

  readonly #snapshotBytes: number;

  constructor({ offset = 100, snapshotBytes = 5_000, tls = false } = {}) {
    this.#snapshotBytes = snapshotBytes;
    this.#backlogFrom = offset;
    this.#beginHistory();
    this.#fake = fakePrimary((peer) => this.#serve(peer), {
      timeoutMs: LINK_TIMEOUT_MS,
      ...(tls ? { tls: { certificate: certificates.server } } : {}),
    });
  }

  get url(): string {
    return this.#fake.url;
  }

  get port(): number {
    return this.#fake.port;
  }

  /** Offset of the last byte of the stream. */
  get offset(): number {
    return this.#backlogFrom + this.#backlog.length;
  }

  get replid(): string {
    return this.#histories.at(-1)!.replid;
  }

  /** The snapshot at an offset. */
  snapshotAt(offset: number): Buffer {
    return smallRdb(`as of ${offset}; `, this.#snapshotBytes);
  }

  /** The stream after `from`. @throws Error if the backlog doesn't reach back so far. */
  streamFrom(from: number): Buffer {
    if (from < this.#backlogFrom) throw new Error(`the backlog begins after ${this.#backlogFrom}`);
    return this.#backlog.subarray(from - this.#backlogFrom);
  }

  /** Appends a command to the stream and sends it to every replica. */
  write(...words: (string | number)[]): void {
    this.#backlog = Buffer.concat([this.#backlog, encodeCommand(words)]);
    for (const fed of this.#fed) this.#feed(fed);
  }

  /** Takes a new replication id, as after a failover; the previous one can still be resumed. */
  changeId(): void {
    this.#beginHistory();
  }

  /** Forgets its history and backlog: attached replicas get nothing more, the next PSYNC gets a snapshot. */
  forget(): void {
    this.#fed.clear();
    this.#backlogFrom = this.offset + 5_000;
    this.#backlog = Buffer.alloc(0);
    this.#histories = [];
    this.#beginHistory();
  }

  /** Resets all links. */
  async breakLinks(): Promise<void> {
    await Promise.all(
      this.#fake.peers.filter(({ isClosed }) => !isClosed).map((peer) => peer.reset()),
    );
  }

  #beginHistory(): void {
    const replid = (++this.#ids).toString(16).padStart(40, "0");
    this.#histories.push({ replid, fromOffset: this.offset });
  }

  async #serve(peer: FakePeer): Promise<void> {
    let rdbOnly = false;
    try {
      for (;;) {
        const words = await peer.readCommand();
        const name = words[0]!.toUpperCase();
        if (name === "PSYNC") return await this.#onPsync(peer, words, rdbOnly);
        if (name === "REPLCONF" && words[1] === "rdb-only") rdbOnly = true;
        await peer.send(name === "PING" ? "+PONG\r\n" : "+OK\r\n");
      }
    } catch (error) {
      // The other side may leave at any time.
      if (!peer.isClosed) throw error;
    }
  }

  async #onPsync(peer: FakePeer, [, replid, next]: string[], rdbOnly: boolean): Promise<void> {
    const from = Number(next) - 1;
    const { offset } = this;
    let sentOffset = offset;
    if (this.#holds(replid!, from)) {
      this.counts.partial++;
      sentOffset = from;
      await peer.send(`+CONTINUE ${this.replid}\r\n`);
    } else {
      this.counts.full++;
      await peer.send(`+FULLRESYNC ${this.replid} ${offset}\r\n`);
      const payload = bulkPayload(this.snapshotAt(offset));
      await peer.send(payload.subarray(0, this.breaksPayloadAt));
      if (this.breaksPayloadAt !== undefined) return peer.reset();
    }
    if (rdbOnly) return await peer.closed;
    const fed = { peer, sentOffset };
    this.#fed.add(fed);
    this.#feed(fed);
    try {
      for (;;) {
        const words = await peer.readCommand();
        if (words[1] !== "ACK") throw new Error(`a replica says ${words.join(" ")}`);
        this.onAcknowledged({
          ack: Number(words[2]),
          fack: words[3] === "FACK" ? Number(words[4]) : undefined,
        });
      }
    } finally {
      this.#fed.delete(fed);
    }
  }

  #holds(replid: string, offset: number): boolean {
    const at = this.#histories.findLastIndex((history) => history.replid === replid);
    const end = this.#histories[at + 1]?.fromOffset ?? this.offset;
    return at !== -1 && offset >= this.#backlogFrom && offset <= end;
  }

  #feed(fed: Fed): void {
    const bytes = this.streamFrom(fed.sentOffset);
    fed.sentOffset = this.offset;
    fed.peer.send(bytes).catch(() => undefined);
  }

  /** The failures of its links. */
  get failures(): readonly Error[] {
    return this.#fake.failures;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#fake.stop();
  }
}
