import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { ClusterLedger } from "../../../src/cluster/ledger/cluster-ledger.ts";
import { shardDirectory } from "../../../src/cluster/ledger/cluster-schema.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { fakeNode, nodeSaying } from "../../support/fake-cluster.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { followCluster } from "../../support/following-cluster.ts";
import { tempDir } from "../../support/temp.ts";

const ID = "a".repeat(40);

/** A shard is recorded, and maybe has its directory; then a replica begins. Returns what was synced before it opened that. */
async function syncedBeforeOpen(hasDirectory: boolean): Promise<(string | undefined)[]> {
  using dir = tempDir("unsynced-shard");
  const path = dir.file("cluster");
  fs.mkdirSync(path);
  const ledger = new ClusterLedger(path, realDisk, true);
  const { number } = ledger.addShard(undefined, Date.now());
  ledger.close();
  if (hasDirectory) fs.mkdirSync(shardDirectory(path, number), { recursive: true });
  const says = {
    nodes: () => `${ID} 127.0.0.1:${node.port}@1 myself,master - 0 0 1 connected 0-16383\n`,
    epoch: () => 1,
  };
  await using node = fakeNode(nodeSaying(says));
  const disk = new FaultyDisk();
  const opened = Promise.withResolvers<(string | undefined)[]>();
  const beforeShard = (which: number) => {
    const syncs = disk.calls.filter(({ operation }) => operation === "syncData");
    if (which === number) opened.resolve(syncs.map((call) => disk.pathOf(call)));
  };
  const url = `redis+cluster://127.0.0.1:${node.port}`;
  const following = followCluster(url, path, { disk, beforeShard });
  const synced = await opened.promise;
  await following.stop();
  return synced.map((file) => file?.slice(path.length + 1));
}

test("after a kill a shard that has no directory yet gets one only once its row is durable", async () => {
  expect(await syncedBeforeOpen(false)).toContain("cluster.db-wal");
}, 150_000);

test("a shard that has a directory is followed at once", async () => {
  expect(await syncedBeforeOpen(true)).toEqual([]);
}, 150_000);
