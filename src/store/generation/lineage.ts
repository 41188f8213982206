import {
  contains,
  historyAfter,
  intervalOf,
  type Offset,
  type ReplicationId,
  type ReplicationIdFrom,
} from "../../base/history.ts";
import type { Generation, Ledger } from "../ledger/ledger.ts";
import { offsetOfByte } from "./layout.ts";

/** A generation with the histories that its stream has been in, the last one last. */
export interface LineageMember extends Generation {
  readonly replicationIds: readonly ReplicationIdFrom[];
}

/**
 * The generations whose logs form one unbroken stream up to the current one: each begins within the log of
 * the one before, in the history that this one was in there.
 */
export class Lineage {
  /** Newest first. */
  readonly #members: LineageMember[] = [];
  /** Of the whole stream, in order. */
  readonly #histories: ReplicationIdFrom[] = [];

  /**
   * @param newestFirst the current generation, then the sealed ones.
   * @param endOf the last offset that a generation's log holds; undefined where its file is missing.
   * @param ended where the stream ends before its files do, and the history that it goes on in there.
   */
  constructor(
    newestFirst: Iterable<LineageMember>,
    endOf: (generation: LineageMember) => Offset | undefined,
    ended?: ReplicationIdFrom,
  ) {
    for (const generation of newestFirst) {
      const next = this.#members.at(-1);
      if (next !== undefined && !leadsTo(generation, next, endOf)) break;
      this.#members.push(generation);
    }
    const ends = ended === undefined ? [] : [{ replicationIds: [ended] }];
    for (const { replicationIds } of [...this.#members.toReversed(), ...ends]) {
      for (const history of replicationIds) {
        // Where two generations overlap, the later one's histories hold for both.
        while (isLater(this.#histories.at(-1), history)) this.#histories.pop();
        if (this.#histories.at(-1)?.replid !== history.replid) this.#histories.push(history);
      }
    }
  }

  /** The offset before the first byte; undefined where nothing is kept. */
  get fromOffset(): Offset | undefined {
    return this.#members.at(-1)?.baseOffset;
  }

  /** The generation whose log holds the end. */
  get newest(): LineageMember | undefined {
    return this.#members[0];
  }

  /** The history that the stream is in right after `offset`; undefined where the primary named none. */
  historyAt(offset: Offset): ReplicationId | undefined {
    return historyAfter(this.#histories, offset);
  }

  /**
   * Whether a replica at `offset` of this history can go on with this stream. A history contains what came
   * before it too, as with Redis's own ids ("Redis, replication.c, masterTryPartialResync").
   */
  holds(replid: string, offset: Offset): boolean {
    const interval = intervalOf(this.#histories, replid);
    const fromOffset = this.fromOffset ?? Infinity;
    return interval !== undefined && contains({ ...interval, fromOffset }, offset);
  }

  /** Whether the stream was ever in this history. */
  knows(replid: string): replid is ReplicationId {
    return intervalOf(this.#histories, replid) !== undefined;
  }

  /** The generation whose log holds the byte after `offset`, and the offset up to which to read it there. */
  at(offset: Offset): { readonly generation: Generation; readonly until: Offset } | undefined {
    const at = this.#members.findIndex(({ baseOffset }) => baseOffset <= offset);
    const generation = this.#members[at];
    if (generation === undefined) return undefined;
    return { generation, until: this.#members[at - 1]?.baseOffset ?? Infinity };
  }
}

function isLater(before: ReplicationIdFrom | undefined, history: ReplicationIdFrom): boolean {
  return before !== undefined && before.fromOffset > history.fromOffset;
}

function leadsTo(
  generation: LineageMember,
  next: LineageMember,
  endOf: (generation: LineageMember) => Offset | undefined,
): boolean {
  const offset = next.baseOffset;
  const replid = next.replicationIds[0]?.replid;
  if (replid === undefined || offset < generation.baseOffset) return false;
  const interval = intervalOf(generation.replicationIds, replid);
  if (interval === undefined || !contains(interval, offset)) return false;
  return (endOf(generation) ?? -1) >= offset;
}

/**
 * The lineage of the generations that the ledger records.
 * @param sizeOf the length of a generation's log, in bytes; throws where its file is missing.
 * @param newest the id of the generation to end with.
 * @param ended see `Lineage`.
 * @throws ReplicaError of the ledger.
 */
export function readLineage(
  ledger: Ledger,
  sizeOf: (id: number) => number,
  newest: number,
  ended: ReplicationIdFrom | undefined,
): Lineage {
  const kept = ledger
    .whole()
    .values()
    .filter(({ id }) => id <= newest)
    .map((generation) => ({ ...generation, replicationIds: ledger.replicationIds(generation.id) }));
  const endOf = (generation: Generation) => {
    try {
      return offsetOfByte(generation, sizeOf(generation.id));
    } catch {
      // Someone removed the file: it leads nowhere.
      return undefined;
    }
  };
  return new Lineage(kept, endOf, ended);
}
