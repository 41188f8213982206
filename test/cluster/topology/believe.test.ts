import { describe, expect, test } from "bun:test";
import {
  believe,
  type KnownCluster,
  type NodeAnswer,
} from "../../../src/cluster/topology/believe.ts";
import type { ClusterNode, Topology } from "../../../src/cluster/topology/topology.ts";

const NOBODY: KnownCluster = { highestEpoch: 0, nodeIds: new Set(), shardIds: new Set() };

function nodeNamed(id: string, more: Partial<ClusterNode> = {}): ClusterNode {
  return {
    id,
    address: undefined,
    role: "primary",
    primaryId: undefined,
    health: "ok",
    isLoading: false,
    slots: [],
    configEpoch: 0,
    open: [],
    ...more,
  };
}

/** What `by` says of primaries that share all slots. */
function answer(by: string, ids: readonly string[], more: Partial<Topology> = {}): NodeAnswer {
  const all = ids.map((id, index) => nodeNamed(id, { slots: [[index, index]] }));
  const topology: Topology = {
    myId: by,
    epoch: 5,
    isOk: true,
    slotsAssigned: 16_384,
    nodes: new Map(all.map((node) => [node.id, node])),
    shards: all.map((primary) => ({
      shardId: undefined,
      primary,
      replicas: [],
      slots: primary.slots,
    })),
    ...more,
  };
  return { from: { host: by, port: 1 }, topology };
}

function known(highestEpoch: number, ...ids: string[]): KnownCluster {
  return { highestEpoch, nodeIds: new Set(ids), shardIds: new Set() };
}

const who = (verdict: ReturnType<typeof believe>) =>
  verdict.kind === "believed" ? verdict.view.from.host : verdict.kind;

describe("the view that is believed", () => {
  const all = ["a", "b", "c"];

  test("has the highest epoch, then the most slots, then the most nodes", () => {
    const low = answer("a", all, { epoch: 4, slotsAssigned: 16_384 });
    expect(who(believe([low, answer("b", all, { epoch: 6, slotsAssigned: 9 })], NOBODY))).toBe("b");
    const few = answer("a", all, { slotsAssigned: 9 });
    expect(who(believe([few, answer("b", all)], NOBODY))).toBe("b");
    expect(who(believe([answer("a", ["a", "b"]), answer("b", all)], NOBODY))).toBe("b");
  });

  test("is none where its epoch is lower than one seen before", () => {
    expect(who(believe([answer("a", all)], known(6, "a")))).toBe("stale");
    expect(who(believe([answer("a", all)], known(5, "a")))).toBe("a");
  });

  test("may be set back where most of the primaries say so, and nobody else", () => {
    expect(who(believe([answer("a", all), answer("b", all)], known(6, "a")))).toBe("a");
    const other = answer("c", all, { epoch: 4 });
    expect(who(believe([answer("a", all), answer("b", all), other], known(6, "a")))).toBe("stale");
  });

  test("may be set back where most of those that one look asks say so", () => {
    const many = Array.from({ length: 64 }, (_, index) => `n${index}`);
    const asked = (count: number) => many.slice(0, count).map((id) => answer(id, many));
    expect(who(believe(asked(24), known(6, "n0"), 24))).toBe("n0");
    expect(who(believe(asked(12), known(6, "n0"), 24))).toBe("stale");
    expect(
      who(believe([...asked(23), answer("n23", many, { epoch: 4 })], known(6, "n0"), 24)),
    ).toBe("stale");
    expect(who(believe(asked(24), known(6, "n0")))).toBe("stale");
  });

  test("is none where a node has left its cluster", () => {
    const alone = answer("a", ["a"], { slotsAssigned: 0, epoch: 9 });
    expect(who(believe([alone], known(5, "a", "b")))).toBe("stale");
    expect(who(believe([alone, answer("b", all, { epoch: 9 })], known(5, "a", "b")))).toBe("b");
  });

  test("is none where nobody shares a node with what is known", () => {
    expect(who(believe([answer("x", ["x"])], known(5, "a")))).toBe("another");
    const verdict = believe([answer("x", ["x", "y"]), answer("a", all)], known(5, "a"));
    expect(who(verdict)).toBe("a");
    expect(verdict.kind === "believed" && verdict.strangers.map(({ from }) => from.host)).toEqual([
      "x",
    ]);
  });

  test("is known by a shard's id where all nodes are new", () => {
    const [first] = answer("x", ["x"]).topology.shards;
    const named = answer("x", ["x"], { shards: [{ ...first!, shardId: "s" }] });
    const before = { ...known(5, "a"), shardIds: new Set(["s"]) };
    expect(who(believe([named], before))).toBe("x");
  });

  test("is at first that of whoever answers first", () => {
    const verdict = believe([answer("a", all), answer("x", ["x"], { epoch: 99 })], NOBODY);
    expect(who(verdict)).toBe("a");
  });

  test("has no primary that says of itself that it is a replica", () => {
    const nodes = new Map([["b", nodeNamed("b", { role: "replica" })]]);
    const verdict = believe([answer("a", all, { epoch: 9 }), answer("b", all, { nodes })], NOBODY);
    const shown = verdict.kind === "believed" ? verdict.view.topology.shards : [];
    expect(shown.map(({ primary }) => [primary.id, primary.role])).toEqual([
      ["a", "primary"],
      ["b", "replica"],
      ["c", "primary"],
    ]);
  });

  test("has each node's own open slots", () => {
    const mark = { slot: 1, way: "to", nodeId: "a" } as const;
    const nodes = new Map([["b", nodeNamed("b", { open: [mark] })]]);
    const verdict = believe(
      [answer("a", all, { epoch: 9 }), answer("b", all, { nodes })],
      known(0, "a", "b"),
    );
    expect(verdict.kind === "believed" && [...verdict.view.open]).toEqual([
      ["a", []],
      ["b", [mark]],
    ]);
  });
});
