import { expect, test } from "bun:test";
import { parseSource } from "../../../src/config/primary-source.ts";
import { NodeLink } from "../../../src/cluster/topology/node-link.ts";
import { bulk, fakeNode, NO_SHARDS } from "../../support/fake-cluster.ts";

const TLS = {
  caFile: undefined,
  certFile: undefined,
  keyFile: undefined,
  serverName: undefined,
  insecure: false,
};
const ID = "a".repeat(40);

/** How often a node is asked for its shard's id in three looks, where this is its answer. */
async function timesAsked(said: string): Promise<number> {
  await using node = fakeNode(([, what]) => {
    if (what === "INFO") return bulk("cluster_state:ok\r\ncluster_current_epoch:1\r\n");
    if (what === "NODES") return bulk(`${ID} 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-9\n`);
    return what === "SHARDS" ? NO_SHARDS : said;
  });
  const source = parseSource(`redis+cluster://127.0.0.1:${node.port}`);
  if (source.kind !== "cluster") throw new Error("it names no cluster");
  const login = { username: undefined, read: () => undefined } as never;
  const settings = { tls: TLS, syncTimeoutMs: 5_000 };
  const link = new NodeLink({ host: "127.0.0.1", port: node.port }, { source, login, settings });
  for (let look = 0; look < 3; look++) {
    expect((await link.ask()).topology.myId).toBe(ID);
  }
  link.close();
  return node.asked.filter(([, what]) => what === "MYSHARDID").length;
}

test("a node that refuses to tell its shard's id, or can't, isn't asked for it again", async () => {
  expect(await timesAsked("-NOPERM User repl has no permissions\r\n")).toBe(1);
  expect(await timesAsked("-ERR unknown subcommand 'MYSHARDID'. Try CLUSTER HELP.\r\n")).toBe(1);
  expect(await timesAsked("-LOADING the dataset\r\n")).toBe(3);
  expect(await timesAsked(bulk("b".repeat(40)))).toBe(3);
});
