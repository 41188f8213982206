import { describe, expect, test } from "bun:test";
import type { ReplicaError } from "../../../src/base/errors.ts";
import { LinkWatch, type WatchedLink } from "../../../src/cluster/follow/link-watch.ts";
import type { ClusterNode, ShardView } from "../../../src/cluster/topology/topology.ts";

function node(id: string, more: Partial<ClusterNode> = {}): ClusterNode {
  return {
    id,
    address: { host: `${id}.example`, port: 7000 },
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

function view(primary: ClusterNode, ...replicas: ClusterNode[]): ShardView {
  return { shardId: undefined, primary, replicas, slots: [[0, 9]] };
}

function watching(readFrom: "primary" | "replica" = "primary") {
  const left: string[] = [];
  const seen = {
    nowMs: 0,
    strangers: new Set<string>(),
    replica: undefined as string | undefined,
    avoided: [] as string[],
    asked: 0,
  };
  const watch = new LinkWatch({
    number: 3,
    clock: { monotonicMs: () => seen.nowMs },
    readFrom,
    isStranger: ({ host }) => seen.strangers.has(host),
    naming: {
      findReplica: async () => {
        seen.asked++;
        const host = await Promise.resolve(seen.replica);
        return host === undefined ? undefined : { address: { host, port: 7000 } };
      },
      avoid: ({ host }) => seen.avoided.push(host),
    },
  });
  const linkTo = (host: string, isCutOff = false): WatchedLink => ({
    target: { kind: "tcp", host, port: 7000, username: undefined, password: undefined },
    isCutOff,
    leave: (why: ReplicaError) => left.push(why.message),
  });
  return { watch, seen, left, linkTo };
}

describe("the link to a primary", () => {
  test.each<[string, ShardView | undefined]>([
    ["that others have replaced", view(node("c"), node("a", { role: "replica" }))],
    ["for which the cluster has no address", view(node("a", { address: undefined }))],
    ["whose shard isn't shown", undefined],
  ])("%s is broken after two seconds, however many looks there were", (_what, shown) => {
    const { watch, seen, left, linkTo } = watching();
    const link = linkTo("a.example");
    for (const nowMs of [0, 1, 2, 3, 1_999]) {
      seen.nowMs = nowMs;
      watch.see(shown, link);
    }
    expect(left).toEqual([]);
    seen.nowMs = 2_000;
    watch.see(shown, link);
    expect(left).toHaveLength(1);
  });

  test("where another server answers is broken", () => {
    const { watch, seen, left, linkTo } = watching();
    seen.strangers.add("a.example");
    const link = linkTo("a.example");
    watch.see(view(node("a")), link);
    seen.nowMs = 2_000;
    watch.see(view(node("a")), link);
    expect(left).toEqual([
      "redis://a.example:7000 isn't the node any more that it was for shard 3",
    ]);
  });

  test("stays where it is right, was wrong for a moment, or is whom REPLICAOF named", () => {
    const { watch, seen, left, linkTo } = watching();
    const link = linkTo("a.example");
    watch.see(view(node("c")), link);
    seen.nowMs = 1_000;
    watch.see(view(node("a", { health: "failed" })), link);
    seen.nowMs = 2_500;
    watch.see(view(node("c")), link);
    expect(left).toEqual([]);
    const stranger = { ...link, target: { ...link.target, isStranger: true as const } };
    watch.see(view(node("c")), stranger);
    seen.nowMs = 9_000;
    watch.see(view(node("c")), stranger);
    expect(left).toEqual([]);
  });
});

describe("--cluster-read-from replica", () => {
  const replica = node("b", { role: "replica" });

  test.each<[string, ShardView, boolean]>([
    ["has failed", view(node("a"), { ...replica, health: "failed" }), false],
    ["has no link to its primary", view(node("a"), replica), true],
  ])("leaves a replica that %s, and lets it alone", (_what, shown, isCutOff) => {
    const { watch, seen, left, linkTo } = watching("replica");
    const link = linkTo("b.example", isCutOff);
    watch.see(shown, link);
    expect(left).toEqual([]);
    seen.nowMs = 2_000;
    watch.see(shown, link);
    expect(left).toHaveLength(1);
    expect(seen.avoided).toEqual(["b.example"]);
  });

  test("keeps a replica that is well, whichever it is", () => {
    const { watch, seen, left, linkTo } = watching("replica");
    const link = linkTo("b.example");
    for (const nowMs of [0, 5_000]) {
      seen.nowMs = nowMs;
      watch.see(view(node("a"), node("c", { role: "replica" }), replica), link);
    }
    expect(left).toEqual([]);
  });

  test("leaves the primary only for a replica that has answered", async () => {
    const { watch, seen, left, linkTo } = watching("replica");
    const link = linkTo("a.example");
    watch.see(view(node("a"), replica), link);
    await Promise.resolve();
    await Promise.resolve();
    expect(left).toEqual([]);
    seen.replica = "b.example";
    await Bun.sleep(0);
    watch.see(view(node("a"), replica), link);
    watch.see(view(node("a"), replica), link);
    await Bun.sleep(0);
    expect(seen.asked).toBe(2);
    expect(left).toEqual([
      "shard 3 is to be followed from its replica at b.example:7000 now, and no more from redis://a.example:7000",
    ]);
  });
});
