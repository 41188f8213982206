import { describe, expect, test } from "bun:test";
import { ShardBook } from "../../../src/cluster/follow/shard-book.ts";
import { ClusterLedger } from "../../../src/cluster/ledger/cluster-ledger.ts";
import type { SlotRange } from "../../../src/cluster/slots/slot-ranges.ts";
import type { Believed } from "../../../src/cluster/topology/believe.ts";
import { type Histories, matchShards } from "../../../src/cluster/topology/identify.ts";
import type { ClusterNode, OpenMark, ShardView } from "../../../src/cluster/topology/topology.ts";
import { limits } from "../../../src/config/limits.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { tempDir } from "../../support/temp.ts";

function node(id: string, more: Partial<ClusterNode> = {}): ClusterNode {
  return {
    id,
    address: { host: "h", port: id.codePointAt(0)! },
    role: "primary",
    primaryId: undefined,
    health: "ok",
    isLoading: false,
    slots: [],
    configEpoch: 1,
    open: [],
    ...more,
  };
}

interface Shown {
  readonly id: string;
  readonly slots: readonly SlotRange[];
  readonly replicas?: readonly string[];
  readonly shardId?: string;
  readonly open?: readonly OpenMark[];
  readonly health?: ClusterNode["health"];
}

function seen(all: readonly Shown[], slotsAssigned = 16_384): Believed {
  const shards = all.map(({ id, slots, replicas = [], shardId, health = "ok" }): ShardView => ({
    shardId,
    primary: node(id, { slots, health }),
    replicas: replicas.map((one) => node(one, { role: "replica", primaryId: id })),
    slots,
  }));
  const nodes = shards.flatMap(({ primary, replicas }) => [primary, ...replicas]);
  return {
    from: { host: "h", port: 1 },
    topology: {
      myId: all[0]!.id,
      epoch: 1,
      isOk: true,
      slotsAssigned,
      nodes: new Map(nodes.map((one) => [one.id, one])),
      shards,
    },
    open: new Map(all.map(({ id, open = [] }) => [id, open])),
  };
}

/** A book of a new directory; `look` takes a view, records what appeared, and returns what ended. */
function newBook() {
  const dir = tempDir("shard-book");
  const ledger = new ClusterLedger(dir.path, realDisk, true);
  const at = { book: new ShardBook(ledger) };
  const match = ({ topology }: Believed, histories?: Histories) =>
    matchShards(at.book.knownShards, topology.shards, histories);
  return {
    ledger,
    at,
    /** As after a restart. */
    reopen: () => {
      at.book = new ShardBook(ledger);
    },
    look: (view: Believed, nowMs: number, histories?: Histories) => {
      const { appeared, ended } = at.book.take(view, match(view, histories), nowMs);
      const numbers = appeared.map((one) => at.book.add(one, nowMs, 1).number);
      for (const { number, why } of ended) at.book.end(number, why, nowMs);
      return { appeared: numbers, ended };
    },
    [Symbol.dispose]: () => {
      ledger.close();
      dir[Symbol.dispose]();
    },
  };
}

const A = { id: "a", slots: [[0, 99]], replicas: ["b"] } as const;
const C = { id: "c", slots: [[100, 16_383]] } as const;

describe("a shard appears", () => {
  test("at once where nothing is kept, and in the second look beside others", () => {
    using on = newBook();
    expect(on.look(seen([A]), 1_000).appeared).toEqual([1]);
    expect(on.look(seen([A, C]), 2_000).appeared).toEqual([]);
    expect(on.look(seen([A, C]), 3_000).appeared).toEqual([2]);
    expect(on.look(seen([A, C]), 4_000).appeared).toEqual([]);
    expect(on.ledger.shards().map(({ number }) => number)).toEqual([1, 2]);
  });

  test("without slots once it imports one, else after ten seconds", () => {
    using on = newBook();
    on.look(seen([A, C]), 1_000);
    const empty: Shown = { id: "x", slots: [] };
    expect(on.look(seen([A, C, empty]), 2_000).appeared).toEqual([]);
    expect(on.look(seen([A, C, empty]), 11_999).appeared).toEqual([]);
    const importing: Shown = { ...empty, open: [{ slot: 1, way: "from", nodeId: "a" }] };
    expect(on.look(seen([A, C, importing]), 11_999).appeared).toEqual([3]);
    const other: Shown = { id: "y", slots: [] };
    on.look(seen([A, C, importing, other]), 20_000);
    expect(on.look(seen([A, C, importing, other]), 30_000).appeared).toEqual([4]);
  });
});

describe("a shard ends", () => {
  test("once it is missing in two looks, a second apart, of a cluster that is whole", () => {
    using on = newBook();
    on.look(seen([A, C]), 1_000);
    const joined = { ...A, replicas: ["b", "c"], slots: [[0, 16_383]] } as const;
    expect(on.look(seen([joined]), 2_000).ended).toEqual([]);
    expect(on.look(seen([joined]), 2_900).ended).toEqual([]);
    expect(on.look(seen([joined]), 3_000).ended).toEqual([
      { number: 2, why: "its node c became a replica of shard 1" },
    ]);
    expect(on.ledger.shards()[1]).toMatchObject({ number: 2, endedMs: 3_000 });
    // Its node comes back as a primary: that is a new shard, with a number of its own.
    on.look(seen([A, C]), 4_000);
    expect(on.look(seen([A, C]), 5_000).appeared).toEqual([3]);
  });

  test("never while slots belong to nobody, nor where it is shown again in between", () => {
    using on = newBook();
    on.look(seen([A, C]), 1_000);
    for (const nowMs of [2_000, 3_000, 4_000]) {
      expect(on.look(seen([A], 100), nowMs).ended).toEqual([]);
    }
    const whole = { ...A, slots: [[0, 16_383]] } as const;
    on.look(seen([whole]), 5_000);
    on.look(seen([A, C]), 60_000);
    expect(on.look(seen([whole]), 61_000).ended).toEqual([]);
    expect(on.look(seen([whole]), 120_000).ended).toEqual([]);
    expect(on.look(seen([whole]), 121_000).ended).toEqual([
      { number: 2, why: "its nodes have left the cluster" },
    ]);
  });

  test("never while its node has failed without slots: it is the same shard once it comes back", () => {
    using on = newBook();
    on.look(seen([A, C]), 1_000);
    const emptied = [
      { ...A, slots: [[0, 16_383]] as const },
      { ...C, slots: [] },
    ];
    on.look(seen(emptied), 2_000);
    const failed = seen([emptied[0]!, { ...C, slots: [], health: "failed" }]);
    for (const nowMs of [3_000, 70_000, 140_000]) {
      expect(on.look(failed, nowMs)).toEqual({ appeared: [], ended: [] });
      expect(on.at.book.view(2)).toBeUndefined();
    }
    on.reopen();
    on.look(failed, 150_000);
    on.look(failed, 220_000);
    expect(on.look(seen(emptied), 221_000)).toEqual({ appeared: [], ended: [] });
    expect(on.at.book.view(2)?.primary.id).toBe("c");
  });

  test("after a restart, too, once its node has joined another one", () => {
    using on = newBook();
    on.look(seen([C, A]), 1_000);
    on.reopen();
    const joined = seen([{ ...A, replicas: ["b", "c"], slots: [[0, 16_383]] }]);
    const history = { current: 2, previous: undefined };
    on.look(joined, 2_000, new Map([[joined.topology.shards[0]!, history]]));
    expect(on.look(joined, 3_000).ended).toEqual([
      { number: 1, why: "its node c became a replica of shard 2" },
    ]);
  });

  test("never while its node is a primary, though it owns no slots", () => {
    using on = newBook();
    on.look(seen([A, C]), 1_000);
    const emptied = [
      { ...A, slots: [[0, 16_383]] as const },
      { ...C, slots: [] },
    ];
    for (const nowMs of [2_000, 3_000, 60_000]) {
      expect(on.look(seen(emptied), nowMs)).toEqual({ appeared: [], ended: [] });
    }
  });
});

test("a shard is known after a restart, by any of its nodes", () => {
  using on = newBook();
  on.look(seen([A, C]), 1_000);
  on.reopen();
  const failedOver = { ...A, id: "b", replicas: ["a"] };
  expect(on.look(seen([failedOver, C]), 9_000)).toEqual({ appeared: [], ended: [] });
  expect(on.at.book.view(1)!.primary.id).toBe("b");
  expect([...on.at.book.known.nodeIds].toSorted()).toEqual(["a", "b", "c"]);
});

test("open slots are told by shards, from either node's word", () => {
  using on = newBook();
  on.look(seen([A, C]), 1_000);
  const source = { ...A, open: [{ slot: 5, way: "to", nodeId: "c" }] } as const;
  const target = {
    ...C,
    open: [
      { slot: 5, way: "from", nodeId: "a" },
      { slot: 6, way: "from", nodeId: "b" },
      { slot: 7, way: "from", nodeId: "nobody's" },
    ],
  } as const;
  const view = seen([source, target]);
  on.look(view, 2_000);
  const { open, isKnown } = on.at.book.openSlots(view);
  expect(open).toEqual([
    { slot: 5, source: 1, target: 2 },
    { slot: 6, source: 1, target: 2 },
  ]);
  expect(isKnown(1)).toBe(true);
  expect(on.at.book.openSlots({ ...view, open: new Map() }).isKnown(1)).toBe(false);
});

describe("nodes are forgotten", () => {
  const DAY_MS = 24 * 60 * 60_000;

  test("that weren't seen for a month, and never one that the cluster knows", () => {
    using on = newBook();
    on.look(seen([A, C]), 1_000);
    on.look(seen([{ ...A, replicas: ["b", "x"] }, C]), 2_000);
    for (let day = 1; day < 30; day++) on.look(seen([A, C]), day * DAY_MS);
    expect(on.at.book.known.nodeIds.has("x")).toBe(true);
    on.look(seen([A, C]), 30 * DAY_MS + 2_001);
    expect([...on.at.book.known.nodeIds].toSorted()).toEqual(["a", "b", "c"]);
    expect(on.ledger.members().map(({ nodeId }) => nodeId)).toEqual(["a", "b", "c"]);
  });

  test("of too many, those that were seen first", () => {
    using on = newBook();
    const each = 2_000;
    const looks = Math.ceil(limits.clusterMembers / each) + 2;
    for (let look = 0; look < looks; look++) {
      const replicas = Array.from({ length: each }, (_, index) => `r${look}-${index}`);
      on.look(seen([{ ...A, replicas }, C]), 1_000 * (look + 1));
    }
    const { nodeIds } = on.at.book.known;
    expect(nodeIds.size).toBe(limits.clusterMembers);
    expect(on.ledger.members().length).toBe(limits.clusterMembers);
    const kept = [nodeIds.has("a"), nodeIds.has("r0-0"), nodeIds.has(`r${looks - 1}-0`)];
    expect(kept).toEqual([true, false, true]);
    expect(on.at.book.knownShards[0]!.nodeIds.size).toBeLessThanOrEqual(limits.clusterMembers);
  });
});
