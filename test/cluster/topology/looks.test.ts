import { describe, expect, spyOn, test } from "bun:test";
import { reasonOf } from "../../support/error-of.ts";
import { realClock } from "../../../src/base/clock.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { logger } from "../../../src/base/logger.ts";
import type { KnownCluster } from "../../../src/cluster/topology/believe.ts";
import { ClusterLooks } from "../../../src/cluster/topology/looks.ts";
import { loadSettings } from "../../../src/config/load-settings.ts";
import { parseSource } from "../../../src/config/primary-source.ts";
import { PrimaryLogin } from "../../../src/upstream/link/primary-login.ts";
import { bulk, DISABLED, type FakeNode, fakeNode, nodeSaying } from "../../support/fake-cluster.ts";
import { freePort } from "../../support/ports.ts";
import { until } from "../../support/wait.ts";

const NOBODY: KnownCluster = { highestEpoch: 0, nodeIds: new Set(), shardIds: new Set() };
const A = "a".repeat(40);
const B = "b".repeat(40);
const X = "e".repeat(40);

interface Line {
  readonly id: string;
  readonly port: number;
  readonly slots: string;
  readonly host?: string;
  readonly flags?: string;
}

/** What CLUSTER NODES says, asked of the node with the id `me`. */
function lines(me: string, all: readonly Line[]): string {
  return all
    .map(({ id, port, slots, host = "127.0.0.1", flags = "master" }) => {
      const shown = id === me ? `myself,${flags}` : flags;
      return `${id} ${host}:${port}@${port + 10_000} ${shown} - 0 0 1 connected ${slots}`.trim();
    })
    .join("\n");
}

function looksAt(
  ports: readonly number[],
  known: () => KnownCluster = () => NOBODY,
  login = "",
  clock = realClock,
) {
  const source = parseSource(
    `redis+cluster://${login}${ports.map((port) => `127.0.0.1:${port}`).join(",")}`,
  );
  if (source.kind !== "cluster") throw new Error("no cluster");
  const settings = loadSettings({ flags: new Map([["sync-timeout", "1s"]]), env: {} });
  const looks = new ClusterLooks({
    source,
    settings,
    clock,
    login: new PrimaryLogin(source, settings),
    known,
    addresses: () => [],
  });
  return { looks, [Symbol.dispose]: () => looks.close() };
}

async function complaint(looks: ClusterLooks): Promise<ReplicaError> {
  try {
    await looks.fresh();
  } catch (error) {
    if (error instanceof ReplicaError) return error;
    throw error;
  }
  throw new Error("a view was believed");
}

/** The warnings that `act` brings. */
async function warnings(act: () => Promise<unknown>): Promise<string[]> {
  using spy = spyOn(logger, "warn");
  await act();
  return spy.mock.calls.map(([message]) => message);
}

/** Two primaries, each of which says the current result of `epochOf` and `slotsOf`. */
function pair(state: { epochs: [number, number]; slots: [string, string] }) {
  const nodes: FakeNode[] = [];
  const all = (): Line[] => [
    { id: A, port: nodes[0]!.port, slots: state.slots[0] },
    { id: B, port: nodes[1]!.port, slots: state.slots[1] },
  ];
  for (const [index, id] of [A, B].entries()) {
    const says = { nodes: () => lines(id, all()), epoch: () => state.epochs[index]! };
    nodes.push(fakeNode(nodeSaying(says)));
  }
  const [one, two] = nodes as [FakeNode, FakeNode];
  const dispose = async () => {
    await Promise.all([one.stop(), two.stop()]);
  };
  return { one, two, [Symbol.asyncDispose]: dispose };
}

describe("a look", () => {
  test("hears those whom a seed names as well, and believes the highest epoch", async () => {
    await using both = pair({ epochs: [4, 5], slots: ["0-99", "100-16383"] });
    const { one, two } = both;
    using at = looksAt([one.port]);
    const view = await at.looks.fresh();
    expect(view.from.port).toBe(two.port);
    expect(view.topology.epoch).toBe(5);
    expect([...view.open.keys()].toSorted()).toEqual([A, B]);
    expect(one.asked.slice(0, 4)).toEqual([
      ["CLUSTER", "INFO"],
      ["CLUSTER", "NODES"],
      ["CLUSTER", "SHARDS"],
      ["CLUSTER", "MYSHARDID"],
    ]);
  });

  test("that is asked for by many at once is shared; one that had begun before is not", async () => {
    await using both = pair({ epochs: [5, 5], slots: ["0-99", "100-16383"] });
    const { one } = both;
    using at = looksAt([one.port]);
    const first = at.looks.fresh();
    const later = [at.looks.fresh(), at.looks.fresh()];
    expect(later[0]).toBe(later[1]!);
    expect(await later[0]).not.toBe(await first);
  });

  test("needs one node that answers", async () => {
    await using both = pair({ epochs: [5, 5], slots: ["0-99", "100-16383"] });
    const { one, two } = both;
    using at = looksAt([freePort(), one.port]);
    await at.looks.fresh();
    await one.stop();
    expect((await at.looks.fresh()).from.port).toBe(two.port);
  });

  test("asks the seeds again where nobody else answers", async () => {
    await using both = pair({ epochs: [5, 5], slots: ["0-99", "100-16383"] });
    const { one, two } = both;
    using at = looksAt([one.port]);
    await at.looks.fresh();
    await one.stop();
    await two.stop();
    expect((await complaint(at.looks)).code).toBe("PRIMARY_UNKNOWN");
    const says = {
      nodes: () => lines(A, [{ id: A, port: one.port, slots: "0-16383" }]),
      epoch: () => 6,
    };
    await using again = fakeNode(nodeSaying(says), one.port);
    expect((await at.looks.fresh()).from.port).toBe(again.port);
  });
});

describe("no view is believed", () => {
  test("where all seeds are down, and each is named", async () => {
    const ports = [freePort(), freePort()];
    using at = looksAt(ports);
    const error = await complaint(at.looks);
    expect(error).toMatchObject({ code: "PRIMARY_UNKNOWN", retry: "backoff" });
    expect(error.message).toStartWith("no node of the cluster tells where its shards are: ");
    for (const port of ports) expect(error.message).toContain(`127.0.0.1:${port}`);
  });

  test("where the seed is no cluster's node: then it says how to follow it", async () => {
    await using alone = fakeNode(() => DISABLED);
    using at = looksAt([alone.port]);
    const error = await complaint(at.looks);
    expect(error).toMatchObject({ code: "PRIMARY_REFUSED", retry: "never" });
    expect(error.message).toContain("follow it alone, with redis://host:port");
  });

  test("where the user may not ask: then it names the rule", async () => {
    await using node = fakeNode(
      () => "-NOPERM this user has no permissions to run this command\r\n",
    );
    using at = looksAt([node.port], () => NOBODY, "repl:p@");
    const error = await complaint(at.looks);
    expect(error).toMatchObject({ code: "AUTH_FAILED", retry: "backoff" });
    expect(error.message).toContain(
      "ACL SETUSER repl +cluster|shards +cluster|nodes +cluster|info",
    );
  });

  test("where it is another cluster than the one that is kept", async () => {
    await using node = fakeNode(
      nodeSaying({ nodes: () => lines(X, [{ id: X, port: 1, slots: "0-16383" }]), epoch: () => 9 }),
    );
    using at = looksAt([node.port], () => ({ ...NOBODY, nodeIds: new Set([A]) }));
    const error = await complaint(at.looks);
    expect(error).toMatchObject({ code: "PRIMARY_REFUSED", retry: "never" });
    expect(error.message).toContain(
      `leads to another cluster (node ${X} at 127.0.0.1:${node.port})`,
    );
    expect(error.message).toContain(`the one that is kept (with node ${A})`);
  });

  test("where the only node that answers is older than what was seen", async () => {
    await using both = pair({ epochs: [4, 4], slots: ["0-99", "100-16383"] });
    const { one, two } = both;
    await two.stop();
    using at = looksAt([one.port], () => ({ ...NOBODY, nodeIds: new Set([A]), highestEpoch: 5 }));
    const error = await complaint(at.looks);
    expect(error.code).toBe("NOT_A_PRIMARY");
    expect(error.message).toContain("epoch 4, seen 5");
  });

  test.each([
    ["OK", "+OK\r\n"],
    ["an array that is too long", "*999999\r\n"],
    ["an HTTP server", "HTTP/1.1 400 Bad Request\r\n\r\n"],
    ["a bulk that is too long", "$99999999\r\nx"],
    ["a node that is none", bulk("hello world")],
  ])("where it answers as a peer does that is no Redis: %s", async (_what, said) => {
    await using node = fakeNode(() => said);
    using at = looksAt([node.port]);
    expect((await complaint(at.looks)).code).toBe("PROTOCOL");
  });

  test("where it says nothing", async () => {
    await using node = fakeNode(() => undefined);
    using at = looksAt([node.port]);
    const error = await complaint(at.looks);
    expect(error.code).toBe("PRIMARY_UNKNOWN");
    expect(error.message).toContain("no answer within 1000 ms (--sync-timeout)");
  });
});

describe("is told once", () => {
  test("that slots belong to nobody, and that the cluster can't work", async () => {
    let isOk = false;
    let slots = "0-99";
    await using node: FakeNode = fakeNode((words) =>
      nodeSaying({
        nodes: () => lines(A, [{ id: A, port: node.port, slots }]),
        epoch: () => 5,
        isOk,
      })(words),
    );
    using at = looksAt([node.port]);
    const said = await warnings(async () => {
      await at.looks.fresh();
      await at.looks.fresh();
    });
    expect(said).toHaveLength(2);
    expect(said[0]).toContain("16284 of the cluster's 16384 slots belong to no shard");
    expect(said[1]).toContain("cluster_state:fail");
    isOk = true;
    slots = "0-16383";
    expect(await warnings(async () => await at.looks.fresh())).toEqual([]);
  });

  test("that an announced address can't be reached, though the node is well", async () => {
    const dead = freePort();
    await using node: FakeNode = fakeNode(
      nodeSaying({
        nodes: () =>
          lines(A, [
            { id: A, port: node.port, slots: "0-99" },
            { id: B, port: dead, slots: "100-16383" },
          ]),
        epoch: () => 5,
      }),
    );
    let nowMs = 0;
    const clock = { ...realClock, monotonicMs: () => nowMs };
    using at = looksAt([node.port], undefined, "", clock);
    const look = async (atMs: number) => {
      nowMs = atMs;
      await at.looks.fresh();
    };
    // For so long the cluster may take one that died for well.
    const early = await warnings(async () => {
      for (const atMs of [0, 100, 200, 300, 29_000]) await look(atMs);
    });
    expect(early).toEqual([]);
    const said = await warnings(async () => {
      for (const atMs of [30_000, 31_000, 32_000]) await look(atMs);
    });
    expect(said).toHaveLength(1);
    expect(said[0]).toContain(`a node at 127.0.0.1:${dead}, which can't be reached from here`);
    expect(said[0]).toContain("cluster-announce-ip");
  });

  test("that a seed belongs to another cluster", async () => {
    await using stranger = fakeNode(
      nodeSaying({ nodes: () => lines(X, [{ id: X, port: 1, slots: "0-16383" }]), epoch: () => 9 }),
    );
    await using both = pair({ epochs: [5, 5], slots: ["0-99", "100-16383"] });
    const { one } = both;
    using at = looksAt([one.port, stranger.port], () => ({ ...NOBODY, nodeIds: new Set([A]) }));
    const said = await warnings(async () => await at.looks.fresh());
    expect(said).toHaveLength(1);
    expect(said[0]).toContain(`127.0.0.1:${stranger.port} belongs to another cluster`);
  });

  test("that a node which isn't in the URL belongs to another cluster: it isn't to be taken out of there", async () => {
    let isReset = false;
    const nodes: FakeNode[] = [];
    const all = (): Line[] => [
      { id: A, port: nodes[0]!.port, slots: "0-99" },
      { id: B, port: nodes[1]!.port, slots: "100-16383" },
    ];
    const reset = () => lines(X, [{ id: X, port: nodes[1]!.port, slots: "0-16383" }]);
    nodes.push(fakeNode(nodeSaying({ nodes: () => lines(A, all()), epoch: () => 5 })));
    nodes.push(
      fakeNode(nodeSaying({ nodes: () => (isReset ? reset() : lines(B, all())), epoch: () => 5 })),
    );
    await using one = nodes[0]!;
    await using two = nodes[1]!;
    const there = { host: "127.0.0.1", port: two.port };
    using at = looksAt([one.port], () => ({ ...NOBODY, nodeIds: new Set([A, B]) }));
    await at.looks.fresh();
    expect(at.looks.isStranger(there)).toBe(false);
    isReset = true;
    const said = await warnings(async () => {
      await at.looks.fresh();
      await at.looks.fresh();
    });
    expect(said).toHaveLength(1);
    expect(said[0]).toContain("CLUSTER MEET makes it join this one again");
    expect(at.looks.isStranger(there)).toBe(true);
    isReset = false;
    await at.looks.fresh();
    expect(at.looks.isStranger(there)).toBe(false);
  });

  test("nothing, where a node that has answered before can't be reached any more", async () => {
    await using both = pair({ epochs: [5, 5], slots: ["0-99", "100-16383"] });
    const { one, two } = both;
    let nowMs = 0;
    const clock = { ...realClock, monotonicMs: () => nowMs };
    using at = looksAt([one.port], undefined, "", clock);
    await at.looks.fresh();
    await two.stop();
    const said = await warnings(async () => {
      for (nowMs = 1_000; nowMs <= 90_000; nowMs += 30_000) await at.looks.fresh();
    });
    expect(said).toEqual([]);
  });
});

describe("a server that is asked who it is", () => {
  test("says so, or that it is no node of a cluster, or is busy", async () => {
    let said = bulk(
      lines(B, [{ id: B, port: 7, slots: "", flags: "slave" }]).replace("slave -", `slave ${A}`),
    );
    await using node = fakeNode(([command]) =>
      command === "INFO" ? bulk("role:slave\r\n") : said,
    );
    using at = looksAt([node.port]);
    const self = async () => await at.looks.self({ host: "127.0.0.1", port: node.port });
    expect(await self()).toEqual({
      kind: "node",
      id: B,
      primaryId: A,
      replication: "role:slave\r\n",
    });
    said = DISABLED;
    expect(await self()).toMatchObject({
      kind: "nameless",
      said: expect.stringContaining("support disabled"),
    });
    said = "-LOADING Redis is loading the dataset in memory\r\n";
    expect(await self()).toMatchObject({ kind: "busy" });
    said = bulk("hello world");
    expect(await self()).toMatchObject({ kind: "nameless" });
  });

  test("is asked no longer once looks are closed, and neither is any other", async () => {
    await using node = fakeNode(() => undefined);
    using at = looksAt([node.port]);
    const look = complaint(at.looks);
    const self = at.looks
      .self({ host: "127.0.0.1", port: node.port })
      .catch((error: unknown) => error);
    await until(() => node.asked.length >= 2, { what: "both to be asked" });
    const began = performance.now();
    at.looks.close();
    expect(await self).toMatchObject({ code: "LINK_LOST" });
    expect((await look).code).toBe("PRIMARY_UNKNOWN");
    expect(performance.now() - began).toBeLessThan(500);
    expect(await reasonOf(at.looks.self({ host: "127.0.0.1", port: node.port }))).toMatchObject({
      code: "STOPPED",
    });
  });
});
