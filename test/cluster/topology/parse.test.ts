import { describe, expect, test } from "bun:test";
import { readTopology } from "../../../src/cluster/topology/read-topology.ts";
import { type ReplyTree, replyTrees } from "../../../src/cluster/topology/reply-tree.ts";
import { ReplicaError } from "../../../src/base/errors.ts";

const id = (digit: string) => digit.repeat(40);
const plain = { host: "10.0.0.9", tls: false };
const text = (said: string): ReplyTree => ({ isError: false, text: said });
const refusal = (said: string): ReplyTree => ({ isError: true, text: said });
const UNKNOWN = refusal("ERR unknown subcommand 'SHARDS'. Try CLUSTER HELP.");

type Value = string | number | readonly Value[];

function tree(value: Value): ReplyTree {
  if (typeof value === "object") return { elements: value.map(tree) };
  return text(String(value));
}

const INFO = text(
  "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_known_nodes:4\r\ncluster_current_epoch:7\r\n",
);

const NODES = text(
  [
    `${id("a")} 10.0.0.1:7000@17000,a.example myself,master - 0 0 5 connected 0-99 200 [7->-${id("b")}] [8-<-${id("b")}]`,
    `${id("b")} 10.0.0.2:7000@17000 master - 0 1796078937116 2 connected 100-199 201-16383`,
    `${id("c")} 10.0.0.3:7000@17000 slave ${id("a")} 0 1796078936309 5 connected`,
    `${id("d")} 10.0.0.4:7000@17000 slave,fail ${id("b")} 0 1796078936309 2 disconnected`,
    `${id("e")} 10.0.0.5:7000@17000 handshake - 0 0 0 connected`,
    `${id("f")} :0@0 master,noaddr - 0 0 1 disconnected`,
    "",
  ].join("\n"),
);

const node = (digit: string, role: string, more: readonly Value[] = []) => [
  "id",
  id(digit),
  "port",
  7000,
  "tls-port",
  7443,
  "ip",
  `10.1.0.${digit.charCodeAt(0)}`,
  "endpoint",
  `${digit}.example`,
  "role",
  role,
  "replication-offset",
  14,
  "health",
  "online",
  ...more,
];

const SHARDS = tree([
  ["slots", [100, 199, 201, 16_383], "nodes", [node("b", "master"), node("d", "replica")]],
  ["slots", [0, 99, 200, 200], "nodes", [node("a", "master"), node("c", "replica")], "id", id("9")],
]);

describe("a topology", () => {
  test("comes of CLUSTER NODES alone", () => {
    const topology = readTopology([INFO, NODES, UNKNOWN, UNKNOWN], plain, undefined);
    expect(topology).toMatchObject({ myId: id("a"), epoch: 7, isOk: true, slotsAssigned: 16_384 });
    expect(topology.shards.map(({ slots }) => slots)).toEqual([
      [
        [0, 99],
        [200, 200],
      ],
      [
        [100, 199],
        [201, 16_383],
      ],
      [],
    ]);
    expect(topology.shards.map(({ replicas }) => replicas.map((one) => one.id))).toEqual([
      [id("c")],
      [id("d")],
      [],
    ]);
    const [first, second, third] = topology.shards;
    expect(first!.primary.address).toEqual({ host: "10.0.0.1", port: 7000 });
    expect(first!.primary.open).toEqual([
      { slot: 7, way: "to", nodeId: id("b") },
      { slot: 8, way: "from", nodeId: id("b") },
    ]);
    expect(second!.replicas[0]!.health).toBe("failed");
    expect(third!.primary).toMatchObject({ address: undefined, health: "failed" });
    expect([...topology.nodes.keys()]).not.toContain(id("e"));
  });

  test("comes of CLUSTER SHARDS alone", () => {
    const forbidden = refusal(
      "NOPERM this user has no permissions to run the 'cluster|nodes' command",
    );
    const topology = readTopology([forbidden, forbidden, SHARDS, forbidden], plain, "u");
    expect(topology).toMatchObject({ myId: undefined, isOk: true, slotsAssigned: 16_384 });
    expect(topology.shards.map(({ shardId }) => shardId)).toEqual([id("9"), undefined]);
    expect(topology.shards[0]!.primary.address).toEqual({ host: "a.example", port: 7000 });
    expect(topology.shards[1]!.replicas.map((one) => one.id)).toEqual([id("d")]);
  });

  test("has the addresses of CLUSTER SHARDS and the marks of CLUSTER NODES, and the asked node's shard id", () => {
    const topology = readTopology([INFO, NODES, SHARDS, text(id("8"))], plain, undefined);
    expect(topology.nodes.get(id("a"))).toMatchObject({
      address: { host: "a.example", port: 7000 },
      configEpoch: 5,
      open: [{ slot: 7 }, { slot: 8 }],
    });
    // What CLUSTER SHARDS says of a shard's id comes first.
    expect(topology.shards[0]!.shardId).toBe(id("9"));
    const older = readTopology([INFO, NODES, UNKNOWN, text(id("8"))], plain, undefined);
    expect(older.shards.map(({ shardId }) => shardId)).toEqual([id("8"), undefined, undefined]);
  });

  test("has the ports for TLS where it is asked with TLS", () => {
    const asked = { host: "h", tls: true };
    const topology = readTopology([INFO, NODES, SHARDS, UNKNOWN], asked, undefined);
    expect(topology.nodes.get(id("a"))!.address).toEqual({ host: "a.example", port: 7443 });
  });

  test.each([
    ["", "10.1.0.1", "10.1.0.1"],
    ["?", "10.1.0.1", "10.1.0.1"],
    ["", "", "10.0.0.9"],
  ])("for the endpoint %p and the ip %p has the host %p", (endpoint, ip, host) => {
    const entry = ["id", id("a"), "port", 7000, "ip", ip, "endpoint", endpoint, "role", "master"];
    const shards = tree([["slots", [0, 16_383], "nodes", [entry]]]);
    const topology = readTopology([INFO, UNKNOWN, shards, UNKNOWN], plain, undefined);
    expect(topology.nodes.get(id("a"))!.address).toEqual({ host, port: 7000 });
  });

  test("never has the asked node's address for a host name that isn't known", () => {
    const entry = ["id", id("b"), "port", 7000, "ip", "", "endpoint", "?", "role", "master"];
    const shards = tree([["slots", [0, 16_383], "nodes", [entry]]]);
    const alone = readTopology([INFO, UNKNOWN, shards, UNKNOWN], plain, undefined);
    expect(alone.nodes.get(id("b"))!.address).toBeUndefined();
    const both = readTopology([INFO, NODES, shards, UNKNOWN], plain, undefined);
    expect(both.nodes.get(id("b"))!.address).toEqual({ host: "10.0.0.2", port: 7000 });
  });

  test("takes the asked node's address where that knows none of its own, and IPv6", () => {
    const nodes = text(
      `${id("a")} :7000@17000 myself,master - 0 0 5 connected 0-16383\n${id("b")} fe80::1:7001@17001 slave ${id("a")} 0 0 5 connected`,
    );
    const topology = readTopology([INFO, nodes, UNKNOWN, UNKNOWN], plain, undefined);
    expect(topology.nodes.get(id("a"))!.address).toEqual({ host: "10.0.0.9", port: 7000 });
    expect(topology.nodes.get(id("b"))!.address).toEqual({ host: "fe80::1", port: 7001 });
  });
});

function complaint(act: () => unknown): ReplicaError {
  try {
    act();
  } catch (error) {
    if (error instanceof ReplicaError) return error;
    throw error;
  }
  throw new Error("nothing was complained of");
}

describe("refuses", () => {
  const nodes = (line: string) => [INFO, text(line), UNKNOWN, UNKNOWN];
  test.each<[string, readonly ReplyTree[]]>([
    ["no line of its own", nodes(`${id("a")} h:1@2 master - 0 0 1 connected`)],
    ["a short id", nodes("abc h:1@2 myself,master - 0 0 1 connected")],
    ["a port that can't be", nodes(`${id("a")} h:99999@2 myself,master - 0 0 1 connected`)],
    ["a host that can't be", nodes(`${id("a")} h/x:1@2 myself,master - 0 0 1 connected`)],
    ["no epoch", nodes(`${id("a")} h:1@2 myself,master - 0 0 x connected`)],
    ["slots that can't be", nodes(`${id("a")} h:1@2 myself,master - 0 0 1 connected 5-16384`)],
    ["a mark that can't be", nodes(`${id("a")} h:1@2 myself,master - 0 0 1 connected [5->-x]`)],
    ["an INFO that is none", [text("hello"), NODES, UNKNOWN, UNKNOWN]],
    ["shards that are no array", [INFO, UNKNOWN, text("OK"), UNKNOWN]],
    ["a shard without nodes", [INFO, UNKNOWN, tree([["slots", []]]), UNKNOWN]],
    ["slots in descending order", [INFO, UNKNOWN, tree([["slots", [5, 4], "nodes", []]]), UNKNOWN]],
    ["a slot too many", [INFO, UNKNOWN, tree([["slots", [5, 16_384], "nodes", []]]), UNKNOWN]],
    [
      "a node without an id",
      [INFO, UNKNOWN, tree([["slots", [], "nodes", [["role", "master"]]]]), UNKNOWN],
    ],
  ])("%s", (_what, replies) => {
    expect(complaint(() => readTopology(replies, plain, undefined)).code).toBe("PROTOCOL");
  });

  test("a server that is no cluster's node, and says how to follow it", () => {
    const said = refusal("ERR This instance has cluster support disabled");
    const error = complaint(() => readTopology([said, said, said, said], plain, undefined));
    expect(error).toMatchObject({ code: "PRIMARY_REFUSED", retry: "never" });
    expect(error.message).toContain("follow it alone, with redis://host:port");
  });

  test("a user without permissions, and names the rule to paste", () => {
    const said = refusal("NOPERM User u has no permissions to run the 'cluster|nodes' command");
    const error = complaint(() => readTopology([said, said, said, said], plain, "u"));
    expect(error.code).toBe("AUTH_FAILED");
    expect(error.message).toContain(
      "ACL SETUSER u +cluster|shards +cluster|nodes +cluster|info +cluster|myshardid +info",
    );
  });

  test("arrays that are nested too deeply", () => {
    const heads = Array.from({ length: 9 }, () => ({ isError: false, text: "1", elements: 1 }));
    expect(complaint(() => replyTrees(heads)).code).toBe("PROTOCOL");
  });
});
