import { expect, test } from "bun:test";
import { startCluster } from "../support/cluster.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { availableServers, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";

for (const kind of availableServers()) {
  test(`redis:// at a node of a cluster follows its shard, and says how to follow all (${kind})`, async () => {
    await using cluster = await startCluster(kind, { shards: 3, replicas: 0 });
    const [node] = await cluster.primaries();
    using dir = tempDir("node");
    await using replica = startReplica([node!.url(), "--dir", dir.file("data"), "--port", "0"]);
    const [line] = await replica.waitForLine(/.*is a node of a cluster.*/);
    expect(line).toContain(
      `redis://127.0.0.1:${node!.port} is a node of a cluster: only its shard, one of 3, is followed; to follow all, give redis+cluster://127.0.0.1:${node!.port}`,
    );
    await replica.stop();
    expect(replica.stderr.match(/is a node of a cluster/g)).toHaveLength(1);

    const backup = ["backup", node!.url(), dir.file("dump.rdb")];
    const { exitCode, stderr } = await runReplica(backup);
    expect(exitCode).toBe(0);
    expect(stderr).toContain(
      `warn  redis://127.0.0.1:${node!.port} is a node of a cluster, so this snapshot holds its shard alone: back up the primary of each shard, or follow all with redis+cluster://127.0.0.1:${node!.port}\n`,
    );
    const { stderr: unasked } = await runReplica([...backup, "--ask-primary", "no"]);
    expect(unasked).not.toContain("is a node of a cluster");
  });
}

test("no other primary is taken for a node of a cluster", async () => {
  await using server = await startServer("valkey-9");
  using dir = tempDir("node");
  await using replica = startReplica([server.url(), "--dir", dir.file("data"), "--port", "0"]);
  await replica.waitForLine(/connected|following the stream|partial|full resync/i);
  await server.send("SET", "key", "value");
  await server.acknowledgedBy(1);
  await replica.stop();
  expect(replica.stderr).not.toContain("cluster");
});
