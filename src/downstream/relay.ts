import { logger } from "../base/logger.ts";
import type { Offset } from "../base/history.ts";
import { error } from "../resp/reply.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { Disk } from "../store/disk/disk.ts";
import { SharedBlocks } from "../store/disk/shared-blocks.ts";
import type { Clock } from "../base/clock.ts";
import {
  type Announced,
  Downstream,
  type DownstreamSocket,
  type DownstreamState,
  type Feed,
  type Grant,
  grantReply,
} from "./downstream.ts";
import type { EndedStream, Stream } from "./streams.ts";

export interface RelayOptions {
  readonly directory: DataDirectory;
  readonly disk: Disk;
  readonly clock: Clock;
  /** --timeout */
  readonly timeoutMs: number;
  /** What is fed; undefined while nothing is to be relied on. */
  readonly stream: () => Stream | undefined;
  /** The link to the primary: where it is down, more is to come; none without a primary. */
  readonly link: () => "up" | "down" | "none";
}

/** What PSYNC asks for: to go on in a history, with this byte. */
export interface Asked {
  readonly replid: string;
  readonly nextOffset: Offset;
}

/** What is to be done once something holds. */
interface Waiting {
  readonly holds: () => boolean;
  readonly done: () => void;
}

// As Redis words it: a replica tries again later ("Redis, replication.c, syncCommand").
const NO_MASTER_LINK = error("NOMASTERLINK Can't SYNC while not connected with my master");
// A replica that hears this says SYNC.
const NO_PSYNC = error(
  "ERR unknown command 'PSYNC': the primary named no replication id, so say SYNC",
);

/** Feeds other replicas from the files: the base, then the log, as far as it is written. */
export class Relay {
  readonly #options: RelayOptions;
  readonly #feed: Feed;
  readonly #blocks: SharedBlocks;
  readonly #downstreams = new Set<Downstream>();
  readonly #waiting = new Set<Waiting>();
  /** What was served before a primary was followed again, if anything was. */
  before: EndedStream | undefined;
  /** Since the start: bytes sent, syncs granted, and what was asked to continue and couldn't. */
  readonly counts = { snapshot: 0, stream: 0, full: 0, partial: 0, refused: 0 };

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#blocks = new SharedBlocks(options.disk);
    this.#feed = {
      directory: options.directory,
      clock: options.clock,
      blocks: this.#blocks,
      stream: options.stream,
      sent: (phase, bytes) => {
        this.counts[phase] += bytes;
      },
      acknowledged: () => this.#look(),
      left: (downstream) => this.#downstreams.delete(downstream),
    };
  }

  /** Those that are attached, in the order in which they came. */
  get downstreams(): ReadonlySet<Downstream> {
    return this.#downstreams;
  }

  /**
   * Attaches a replica, and begins to send once this has returned.
   * @param asked what PSYNC said; undefined for SYNC.
   * @param begin is given the downstream, and what goes out before anything else.
   * @returns the error reply where it can't be served.
   * @throws ReplicaError of the database.
   */
  attach(
    asked: Asked | undefined,
    announced: Readonly<Announced>,
    socket: DownstreamSocket,
    begin: (downstream: Downstream, reply: Uint8Array | undefined) => void,
  ): Uint8Array | undefined {
    const stream = this.#options.stream();
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
        ? `partial resync behind offset ${grant.offset}`
        : `full resync at offset ${baseOffset}`;
    logger.info(`downstream ${downstream.name} attached: ${what}: ${why}`, {
      client: socket.address,
      generation: id,
    });
    begin(downstream, grantReply(grant, stream.replid, announced.psync2));
    void downstream.run();
    return undefined;
  }

  #count(grant: Grant, asked: Asked | undefined): void {
    this.counts[grant.kind]++;
    // One that has nothing yet asks for "?": that is no refusal ("Redis, masterTryPartialResync").
    if (grant.kind === "full" && asked !== undefined && asked.replid !== "?") this.counts.refused++;
  }

  /** Undefined where it is to come again: what it asks for may be here then. */
  #grant(asked: Asked | undefined, stream: Stream): { grant: Grant; why: string } | undefined {
    const full = (why: string) => {
      const by = asked === undefined ? ("sync" as const) : ("psync" as const);
      return { grant: { kind: "full", by, generation: stream.generation } as const, why };
    };
    if (asked === undefined) return full("SYNC says of no offset");
    if (asked.replid === "?") return full("it has nothing to go on from");
    const lineage = stream.lineage();
    const offset = asked.nextOffset - 1;
    const { before } = this;
    if (asked.replid === before?.replid && before.second !== undefined) {
      // Up to its first PING that history is the one before it; past that, only a full resync helps, and
      // what it is to begin with, the primary says first.
      if (offset <= before.writtenOffset) {
        return this.#grant({ ...asked, replid: before.second }, stream);
      }
      if (this.#options.link() === "down") return undefined;
    }
    if (!lineage.knows(asked.replid)) return full(`its history ${asked.replid} is none of ours`);
    const place = lineage.at(offset);
    if (place === undefined || !lineage.holds(asked.replid, offset)) {
      return full(`offset ${asked.nextOffset} of ${asked.replid} is not in what is kept`);
    }
    if (asked.replid === stream.replid) stream.reach(offset);
    if (offset > stream.endOffset) {
      // What we lost with a cut of the log, the primary sends again.
      if (this.#options.link() === "down") return undefined;
      return full(`offset ${asked.nextOffset} is past the end, ${stream.endOffset}`);
    }
    const { generation } = place;
    return { grant: { kind: "partial", generation, offset }, why: `of ${asked.replid}` };
  }

  /** More was written, or another log has taken the place of the one that was followed. */
  moved(): void {
    for (const downstream of this.#downstreams) downstream.moved();
    this.#look();
  }

  /** Once a second. */
  tick(): void {
    if (this.#downstreams.size > 0 && this.#options.stream()?.keepAlive() === true) this.moved();
    for (const downstream of this.#downstreams) downstream.tick(this.#options.timeoutMs);
  }

  /** Lets all of them go: what they follow has ended, or goes on in a way that they must ask for. */
  endAll(reason: string): void {
    for (const downstream of this.#downstreams) downstream.end(reason);
    this.#blocks.forget();
  }

  /** How many are in each state. */
  countByState(): Record<DownstreamState, number> {
    const counts = { send_bulk: 0, rdb_transmitted: 0, online: 0 };
    for (const { state } of this.#downstreams) counts[state]++;
    return counts;
  }

  /** How far the furthest one of those online is behind what may be sent; bytes, 0 without one. */
  get lagBytes(): number {
    const written = this.endOffset ?? 0;
    const online = this.#downstreams.values().filter(({ state }) => state === "online");
    return Math.max(0, ...online.map(({ ackedOffset }) => written - ackedOffset));
  }

  /** The last offset that may be sent; undefined while nothing is to be relied on. */
  get endOffset(): Offset | undefined {
    return this.#options.stream()?.endOffset;
  }

  /** How many have acknowledged all up to `offset`. */
  countAt(offset: Offset): number {
    const there = this.#downstreams
      .values()
      .filter(({ state, ackedOffset }) => state === "online" && ackedOffset >= offset);
    return [...there].length;
  }

  /**
   * Whether who asks is further than we are, in the history that we follow and by a link that is whole:
   * what it has is on its way to us.
   */
  isAhead({ replid, nextOffset }: Asked): boolean {
    const stream = this.#options.stream();
    const isAhead = stream?.replid === replid && nextOffset - 1 > stream.endOffset;
    return isAhead && this.#options.link() === "up";
  }

  /**
   * Calls `done` once something holds that depends on how far the stream is, or what was acknowledged.
   * @returns what forgets it.
   */
  when(holds: () => boolean, done: () => void): () => void {
    const waiting = { holds, done };
    this.#waiting.add(waiting);
    return () => {
      this.#waiting.delete(waiting);
    };
  }

  #look(): void {
    for (const waiting of this.#waiting) {
      if (!waiting.holds()) continue;
      this.#waiting.delete(waiting);
      waiting.done();
    }
  }
}
