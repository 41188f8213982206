import type { Offset } from "../base/history.ts";
import { invariant } from "../base/errors.ts";
import { error, simple } from "../resp/reply.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { Disk } from "../store/disk/disk.ts";
import { SharedBlocks } from "../store/disk/shared-blocks.ts";
import type { Clock } from "../base/clock.ts";
import {
  Downstream,
  type DownstreamSocket,
  type DownstreamState,
  type Feed,
  type Grant,
  type ReplconfAnnouncement,
} from "./downstream.ts";
import type { EndedStream, Stream, StreamSource } from "./streams.ts";
import { Told } from "./told.ts";

export interface RelayOptions {
  readonly directory: DataDirectory;
  readonly disk: Disk;
  readonly clock: Clock;
  /** --timeout */
  readonly timeoutMs: number;
  readonly source: StreamSource;
}

/** What PSYNC asks for. */
export interface PsyncRequest {
  /** "?" where it has nothing to resume from. */
  readonly replid: string;
  /** The first byte that it lacks. */
  readonly nextOffset: Offset;
}

/** A callback that waits for a condition. */
interface Waiting {
  readonly holds: () => boolean;
  readonly done: () => void;
}

// Redis's wording; a replica then tries again later ("Redis, replication.c, syncCommand").
const NO_MASTER_LINK = error("NOMASTERLINK Can't SYNC while not connected with my master");
// A replica falls back to SYNC on this.
const NO_PSYNC = error(
  "ERR unknown command 'PSYNC': the primary named no replication id, so say SYNC",
);

/** Feeds other replicas from the files: the snapshot, then the log as far as it is written. */
export class Relay {
  readonly #options: RelayOptions;
  readonly #feed: Feed;
  readonly #blocks: SharedBlocks;
  readonly #told: Told;
  readonly #downstreams = new Set<Downstream>();
  readonly #waiting = new Set<Waiting>();
  /** Whether the conditions of those that wait are tried before the event loop goes on. */
  #isToCheck = false;
  /** The stream that was served without a primary, after one is followed again. */
  before: EndedStream | undefined;
  /** Since the start: bytes sent by phase, resyncs granted by kind, partial resyncs refused. */
  readonly counts = { snapshot: 0, stream: 0, full: 0, partial: 0, refused: 0 };

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#blocks = new SharedBlocks(options.disk);
    this.#told = new Told(options.clock);
    this.#feed = {
      directory: options.directory,
      clock: options.clock,
      blocks: this.#blocks,
      source: options.source,
      told: this.#told,
      sent: (phase, bytes) => {
        this.counts[phase] += bytes;
      },
      acknowledged: () => this.#checkSoon(),
      left: (downstream) => this.#downstreams.delete(downstream),
    };
  }

  /** In the order in which they were attached. */
  get downstreams(): ReadonlySet<Downstream> {
    return this.#downstreams;
  }

  /**
   * Attaches a replica. Sending begins after this has returned.
   * @param asked undefined for SYNC.
   * @param begin gets the downstream, and the reply that must be sent before anything else.
   * @returns the error reply where the replica can't be served.
   * @throws ReplicaError of the database.
   */
  attach(
    asked: PsyncRequest | undefined,
    announced: Readonly<ReplconfAnnouncement>,
    socket: DownstreamSocket,
    begin: (downstream: Downstream, reply: Uint8Array | undefined) => void,
  ): Uint8Array | undefined {
    const stream = this.#options.source.stream;
    if (stream === undefined) return NO_MASTER_LINK;
    if (asked !== undefined && stream.replid === undefined) return NO_PSYNC;
    const granted = this.#grant(asked, stream);
    if (granted === undefined) return NO_MASTER_LINK;
    const { grant, why } = granted;
    const downstream = new Downstream(this.#feed, socket, announced, grant);
    this.#downstreams.add(downstream);
    this.#count(grant, asked);
    const { id, baseOffset } = grant.generation;
    const what =
      grant.kind === "partial"
        ? `partial resync after offset ${grant.offset}`
        : `full resync at offset ${baseOffset}`;
    this.#told.info(`downstream ${downstream.name} attached: ${what}: ${why}`, {
      client: socket.address,
      generation: id,
    });
    begin(downstream, grantReply(grant, stream.replid, announced.psync2));
    void downstream.run();
    return undefined;
  }

  #count(grant: Grant, asked: PsyncRequest | undefined): void {
    this.counts[grant.kind]++;
    // "?" asks for a full resync, so it is not a refusal ("Redis, masterTryPartialResync").
    if (grant.kind === "full" && asked !== undefined && asked.replid !== "?") this.counts.refused++;
  }

  /** Undefined where the replica should try again later: what it asks for may have arrived by then. */
  #grant(
    asked: PsyncRequest | undefined,
    stream: Stream,
  ): { grant: Grant; why: string } | undefined {
    const full = (why: string) => {
      const by = asked === undefined ? ("sync" as const) : ("psync" as const);
      return { grant: { kind: "full", by, generation: stream.generation } as const, why };
    };
    if (asked === undefined) return full("SYNC names no offset");
    if (asked.replid === "?") return full("it has nothing to resume from");
    const lineage = stream.lineage();
    const offset = asked.nextOffset - 1;
    const { before } = this;
    if (asked.replid === before?.replid && before.second !== undefined) {
      // Up to its first PING, that history is the same as the one before it. Past that it takes a full resync,
      // whose history is known once the primary is connected.
      if (offset <= before.writtenOffset) {
        return this.#grant({ ...asked, replid: before.second }, stream);
      }
      if (this.#options.source.linkState === "down") return undefined;
    }
    if (!lineage.knows(asked.replid)) return full(`its history ${asked.replid} is unknown`);
    const place = lineage.at(offset);
    if (place === undefined || !lineage.holds(asked.replid, offset)) {
      return full(`offset ${asked.nextOffset} of ${asked.replid} is not kept`);
    }
    if (asked.replid === stream.replid) stream.reach(offset);
    if (offset > stream.endOffset) {
      // The log was cut, and the primary will send those bytes again.
      if (this.#options.source.linkState === "down") return undefined;
      return full(`offset ${asked.nextOffset} is past the end, ${stream.endOffset}`);
    }
    const { generation } = place;
    return { grant: { kind: "partial", generation, offset }, why: `in history ${asked.replid}` };
  }

  /** The stream has grown, or was replaced by another. */
  moved(): void {
    for (const downstream of this.#downstreams) downstream.moved();
    this.#checkSoon();
  }

  /** Call once a second. */
  tick(): void {
    this.#told.tick();
    if (this.#downstreams.size > 0 && this.#options.source.stream?.keepAlive() === true)
      this.moved();
    for (const downstream of this.#downstreams) downstream.tick(this.#options.timeoutMs);
  }

  /** Disconnects all of them: the stream has ended, or continues in a history that they must ask for. */
  endAll(reason: string): void {
    for (const downstream of this.#downstreams) downstream.end(reason);
    this.#blocks.forget();
  }

  /** How many downstreams are in each state. */
  countByState(): Record<DownstreamState, number> {
    const counts = { send_bulk: 0, rdb_transmitted: 0, online: 0 };
    for (const { state } of this.#downstreams) counts[state]++;
    return counts;
  }

  /** Bytes that the slowest online downstream has not acknowledged; 0 without one. */
  get lagBytes(): number {
    const end = this.endOffset ?? 0;
    const online = this.#downstreams.values().filter(({ state }) => state === "online");
    return Math.max(0, ...online.map(({ ackedOffset }) => end - ackedOffset));
  }

  /** The last offset that may be sent; undefined while nothing may be served. */
  get endOffset(): Offset | undefined {
    return this.#options.source.stream?.endOffset;
  }

  /** How many downstreams have acknowledged everything up to `offset`. */
  countAt(offset: Offset): number {
    let count = 0;
    // Hundreds may wait for hundreds: a plain loop takes a tenth of the time of a filter.
    for (const { state, ackedOffset } of this.#downstreams) {
      if (state === "online" && ackedOffset >= offset) count++;
    }
    return count;
  }

  /**
   * Whether a replica asks for bytes that are still on their way here: it is ahead in the same history, and the
   * link to the primary is up.
   */
  isAhead({ replid, nextOffset }: PsyncRequest): boolean {
    const stream = this.#options.source.stream;
    const isAhead = stream?.replid === replid && nextOffset - 1 > stream.endOffset;
    return isAhead && this.#options.source.linkState === "up";
  }

  /**
   * Calls `done` once, soon after a condition on the stream's end or on acknowledged offsets holds.
   * @returns a function that cancels it.
   */
  when(holds: () => boolean, done: () => void): () => void {
    const waiting = { holds, done };
    this.#waiting.add(waiting);
    return () => {
      this.#waiting.delete(waiting);
    };
  }

  /**
   * Tries the conditions of those that wait, once in a turn of the event loop: hundreds of replicas may acknowledge
   * in one, and the primary's link waits as long as that takes.
   */
  #checkSoon(): void {
    if (this.#isToCheck || this.#waiting.size === 0) return;
    this.#isToCheck = true;
    setImmediate(() => this.#checkWaiting());
  }

  #checkWaiting(): void {
    this.#isToCheck = false;
    for (const waiting of this.#waiting) {
      if (!waiting.holds()) continue;
      this.#waiting.delete(waiting);
      waiting.done();
    }
  }
}

/** The reply to PSYNC; undefined for SYNC, which has none. */
function grantReply(
  grant: Grant,
  replid: string | undefined,
  psync2: boolean,
): Uint8Array | undefined {
  if (grant.kind === "full" && grant.by === "sync") return undefined;
  // The relay grants nothing but SYNC where it has no replication id.
  invariant(replid !== undefined, "a PSYNC was granted without a replication id");
  if (grant.kind === "partial") return simple(psync2 ? `CONTINUE ${replid}` : "CONTINUE");
  return simple(`FULLRESYNC ${replid} ${grant.generation.baseOffset}`);
}
