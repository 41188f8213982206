import type { Offset, ReplicationId } from "../../base/history.ts";
import type { Generation, ReplicationIdFrom } from "../ledger/ledger.ts";

/** A generation with the histories that its stream has been in, the one it ended in last. */
export interface LineageMember extends Generation {
  readonly replicationIds: readonly ReplicationIdFrom[];
}

/**
 * The generations whose logs are together one unbroken stream that ends with the current one: each began
 * within the log of the one before, and in the history that this was in there.
 */
export class Lineage {
  /** The newest first. */
  readonly #members: LineageMember[] = [];
  /** Of the whole stream, in order. */
  readonly #histories: ReplicationIdFrom[] = [];

  /**
   * @param newestFirst the current generation, then the sealed ones.
   * @param endOf the last offset that a generation's log holds; undefined where its file isn't there.
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
        // What a later generation says of its own stretch holds for both.
        while (isLater(this.#histories.at(-1), history)) this.#histories.pop();
        if (this.#histories.at(-1)?.replid !== history.replid) this.#histories.push(history);
      }
    }
  }

  /** The first offset behind which there are bytes; undefined where nothing is kept. */
  get fromOffset(): Offset | undefined {
    return this.#members.at(-1)?.baseOffset;
  }

  /** The one whose log holds the end. */
  get newest(): LineageMember | undefined {
    return this.#members[0];
  }

  /** The history that the stream is in behind `offset`; undefined where nobody named one. */
  historyAt(offset: Offset): ReplicationId | undefined {
    return this.#histories.findLast(({ fromOffset }) => fromOffset <= offset)?.replid;
  }

  /**
   * Whether who has come to `offset` in this history can go on with this stream. A history holds what lies
   * before it too, as with Redis's own ids ("Redis, replication.c, masterTryPartialResync").
   */
  holds(replid: string, offset: Offset): boolean {
    const at = this.#histories.findLastIndex((history) => history.replid === replid);
    const end = this.#histories[at + 1]?.fromOffset ?? Infinity;
    return at !== -1 && offset >= (this.fromOffset ?? Infinity) && offset <= end;
  }

  /** Whether the stream was ever in this history. */
  knows(replid: string): replid is ReplicationId {
    return this.#histories.some((history) => history.replid === replid);
  }

  /** Whose log holds the byte behind `offset`, and up to which offset it is to be read from there. */
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
  const ids = generation.replicationIds;
  const at = ids.findLastIndex((history) => history.replid === replid);
  const [first, after] = [ids[at], ids[at + 1]];
  if (first === undefined) return false;
  const isIn = offset >= first.fromOffset && offset <= (after?.fromOffset ?? Infinity);
  return isIn && (endOf(generation) ?? -1) >= offset;
}
