import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  type FoundHistory,
  type KnownShard,
  matchShards,
  unclearShards,
} from "../../../src/cluster/topology/identify.ts";
import type { ClusterNode, ShardView } from "../../../src/cluster/topology/topology.ts";

function nodeNamed(id: string, health: ClusterNode["health"] = "ok"): ClusterNode {
  const nothing = { address: undefined, primaryId: undefined, isLoading: false, configEpoch: 0 };
  return { ...nothing, id, role: "primary", health, slots: [], open: [] };
}

function view(
  primary: string,
  replicas: readonly string[] = [],
  more: { shardId?: string; isEmpty?: boolean; health?: ClusterNode["health"] } = {},
): ShardView {
  return {
    shardId: more.shardId,
    primary: nodeNamed(primary, more.health),
    replicas: replicas.map((id) => nodeNamed(id)),
    slots: more.isEmpty === true ? [] : [[0, 9]],
  };
}

function shard(
  number: number,
  nodeIds: readonly string[],
  more: Partial<KnownShard> = {},
): KnownShard {
  return { number, shardId: undefined, nodeIds: new Set(nodeIds), primaryId: undefined, ...more };
}

const now = (current: number): FoundHistory => ({ current, previous: undefined });
const before = (previous: number): FoundHistory => ({ current: undefined, previous });
const STRANGE: FoundHistory = { current: undefined, previous: undefined };

function match(
  known: readonly KnownShard[],
  views: readonly ShardView[],
  histories: readonly (FoundHistory | undefined)[] = [],
): (number | undefined)[] {
  const asked = views.flatMap((one, at) => {
    const said = histories[at];
    return said === undefined ? [] : [[one, said] as const];
  });
  const found = matchShards(known, views, new Map(asked));
  return views.map((one) => found.get(one));
}

describe("a shard is recognised", () => {
  test("by its id, whatever its nodes", () => {
    expect(match([shard(1, ["a"], { shardId: "s" })], [view("x", [], { shardId: "s" })])).toEqual([
      1,
    ]);
  });

  test("by its primary's node", () => {
    expect(match([shard(1, ["a", "b"])], [view("a", ["x"])])).toEqual([1]);
  });

  test("after a failover, and where the old primary came back", () => {
    expect(match([shard(1, ["a", "b"])], [view("b", ["a"])])).toEqual([1]);
    expect(
      match(
        [shard(1, ["a", "b"])],
        [view("a", [], { isEmpty: true, health: "failed" }), view("b")],
      ),
    ).toEqual([undefined, 1]);
  });

  test("by any node, where the primary is new", () => {
    expect(match([shard(1, ["a", "b"]), shard(2, ["c"])], [view("x", ["b"]), view("c")])).toEqual([
      1, 2,
    ]);
  });

  test("by its history, where all nodes are new", () => {
    const moved = view("x", ["y"]);
    expect(match([shard(1, ["a"])], [moved], [now(1)])).toEqual([1]);
    expect(match([shard(1, ["a"])], [moved], [before(1)])).toEqual([1]);
    expect(match([shard(1, ["a"])], [moved])).toEqual([undefined]);
  });

  test("by its history, where a replica moved and took over another shard", () => {
    const known = [shard(1, ["y"]), shard(2, ["x", "r"])];
    const views = [view("r", ["y"]), view("x")];
    expect(unclearShards(known, views)).toEqual(views);
    expect(match(known, views, [before(1), now(2)])).toEqual([1, 2]);
    expect(match(known, views, [before(1)])).toEqual([1, 2]);
    // Where it isn't told, a new number: never another shard's data.
    expect(match(known, views)).toEqual([undefined, 2]);
  });

  test("by its history, where two shards have changed their nodes", () => {
    const known = [shard(1, ["a", "b"]), shard(2, ["c", "d"])];
    const views = [view("c", ["b"]), view("a", ["d"])];
    expect(match(known, views, [now(2), now(1)])).toEqual([2, 1]);
    expect(match(known, views, [before(1), before(2)])).toEqual([1, 2]);
    expect(match(known, views)).toEqual([undefined, undefined]);
  });

  test("by its history rather than by its node, which leads another shard now", () => {
    const known = [shard(1, ["a"]), shard(2, ["b"])];
    expect(match(known, [view("a")], [now(2)])).toEqual([2]);
    expect(match(known, [view("a")], [STRANGE])).toEqual([1]);
    expect(match([shard(1, ["a", "b"])], [view("x", ["b"])], [STRANGE])).toEqual([undefined]);
  });

  test("by the history that goes on, not by the one that a node had before it was reset", () => {
    const known = [shard(1, ["a", "b"])];
    const views = [view("b"), view("a", [], { isEmpty: true })];
    expect(match(known, views, [before(1), now(1)])).toEqual([undefined, 1]);
    // Amid a failover: whoever has the slots.
    const led = [shard(1, ["a", "b"], { primaryId: "a" })];
    expect(match(led, views, [before(1), now(1)])).toEqual([1, undefined]);
  });

  test("without a question while its primary stays, and nodes that move are asked for", () => {
    const known = [shard(1, ["y"], { primaryId: "y" }), shard(2, ["x", "r"], { primaryId: "x" })];
    expect(unclearShards(known, [view("y"), view("x", ["r"])])).toEqual([]);
    const moved = [view("y", ["r"]), view("x")];
    expect(unclearShards(known, moved)).toEqual([moved[0]!]);
    expect(match(known, moved)).toEqual([1, 2]);
    expect(match(known, [view("y", ["x", "r"])], [now(2)])).toEqual([2]);
  });

  test("not where another id says that it is another", () => {
    expect(match([shard(1, ["a"], { shardId: "s" })], [view("a", [], { shardId: "t" })])).toEqual([
      undefined,
    ]);
  });

  test("where it owns slots, and not in a node of it that was reset", () => {
    const both = [view("b", [], { isEmpty: true }), view("a")];
    expect(match([shard(1, ["a", "b"])], both)).toEqual([undefined, 1]);
  });

  test("in whoever took over, while the old primary doesn't know it yet", () => {
    const both = [view("a", [], { isEmpty: true }), view("b")];
    expect(match([shard(1, ["a", "b"], { primaryId: "a" })], both)).toEqual([undefined, 1]);
  });

  test("where it was, if it was emptied and another of its nodes was reset", () => {
    const both = [view("b", [], { isEmpty: true }), view("a", [], { isEmpty: true })];
    expect(match([shard(1, ["a", "b"], { primaryId: "a" })], both)).toEqual([undefined, 1]);
  });
});

test("whatever moves, each number is given once, and a shard that only failed over keeps its own", () => {
  const names = ["a", "b", "c", "d", "e", "f", "g", "h"];
  const ids = fc.uniqueArray(fc.constantFrom(...names), { minLength: 1 });
  const shardIds = fc.option(fc.constantFrom("s", "t", "u"), { nil: undefined });
  const knowns = fc.array(fc.record({ ids, shardId: shardIds }), { maxLength: 4 });
  const views = fc.array(fc.record({ ids, shardId: shardIds, isEmpty: fc.boolean() }), {
    maxLength: 5,
  });
  fc.assert(
    fc.property(knowns, views, (before, now) => {
      const known = before.map((one, index) => shard(index + 1, one.ids, { shardId: one.shardId }));
      const shown = now.map(({ ids: [primary, ...replicas], shardId, isEmpty }) =>
        view(primary!, replicas, { isEmpty, ...(shardId === undefined ? {} : { shardId }) }),
      );
      const numbers = [...matchShards(known, shown).values()];
      expect(new Set(numbers).size).toBe(numbers.length);
      expect(numbers.every((number) => number >= 1 && number <= known.length)).toBe(true);
    }),
  );
  fc.assert(
    fc.property(fc.array(fc.nat(2), { minLength: 3, maxLength: 3 }), fc.nat(5), (leaders, turn) => {
      // Three shards of three nodes, each led by any of its own, shown in any order.
      const groups = [
        ["a", "b", "c"],
        ["d", "e", "f"],
        ["g", "h", "i"],
      ];
      const known = groups.map((group, index) => shard(index + 1, group));
      const shown = groups.map((group, index) => {
        const leader = group[leaders[index]!]!;
        return {
          number: index + 1,
          view: view(
            leader,
            group.filter((one) => one !== leader),
          ),
        };
      });
      const order = [...shown.slice(turn % 3), ...shown.slice(0, turn % 3)];
      expect(
        match(
          known,
          order.map((one) => one.view),
        ),
      ).toEqual(order.map(({ number }) => number));
    }),
  );
});
