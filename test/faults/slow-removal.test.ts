import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import {
  bulkPayload,
  type FakePrimary,
  fakePrimary,
  standardHandshake,
} from "../support/fake-primary.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { RespClient } from "../support/resp-client.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const OTHER = "b".repeat(40);

/** Removes no folder until it is let, and shows as much room as it is told. */
class SlowDisk extends FaultyDisk {
  readonly removal = Promise.withResolvers<void>();
  free = 1_000_000_000;
  isRemoving = false;

  override freeBytes(): number {
    return this.free;
  }

  override async removeLarge(path: string): Promise<void> {
    this.isRemoving = true;
    await this.removal.promise;
    return super.removeLarge(path);
  }
}

/** The first attempt gets a snapshot, the second one goes on; a second link gets a snapshot for a renewal. */
function homePrimary(): FakePrimary {
  let count = 0;
  return fakePrimary(async (peer) => {
    const isResumed = count++ > 1;
    const offset = 100;
    const answer = isResumed ? { psyncReply: "+CONTINUE" } : {};
    await standardHandshake(peer, { replid: REPLID, offset, ...answer });
    if (!isResumed) await peer.send(bulkPayload(smallRdb("a value")));
  });
}

/** Its snapshot needs room that an old generation has to give, which takes long. */
async function waitingForRoom(
  home: FakePrimary,
  other: FakePrimary,
  dir: TempDir,
  timeout = "60s",
) {
  const disk = new SlowDisk();
  const following = follow(home.url, disk, dir, { timeout, "ask-primary": "no" });
  await following.connected();
  const client = await RespClient.connect({ port: following.port });
  await client.send("BGSAVE");
  await until(() => following.replica.directory.current?.id === 2, { what: "a second generation" });
  disk.free = 0;
  const leave = (primary: FakePrimary) => {
    const { hostname, port } = new URL(primary.url);
    return client.send("REPLICAOF", hostname, port);
  };
  await leave(other);
  await until(() => disk.isRemoving, { what: "the removal" });
  return { ...following, disk, leave };
}

function otherPrimary(): FakePrimary {
  return fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: OTHER, offset: 5_000 });
    await peer.send(bulkPayload(smallRdb("another value")));
  });
}

test.concurrent(
  "a resync waits for room beyond the link's timeout, and goes on once it is there",
  async () => {
    using dir = tempDir("slow-removal");
    await using home = homePrimary();
    await using other = otherPrimary();
    await using following = await waitingForRoom(home, other, dir);
    // Longer than --timeout.
    await Bun.sleep(1_500);
    expect(other.peers).toHaveLength(1);
    following.disk.free = 1_000_000;
    following.disk.removal.resolve();
    await following.connected();
    expect(following.replica.directory.current?.id).toBe(3);
  },
);

test.concurrent("nobody who follows another primary waits for that room", async () => {
  using dir = tempDir("slow-removal");
  await using home = homePrimary();
  await using other = otherPrimary();
  await using following = await waitingForRoom(home, other, dir);
  await following.leave(home);
  await following.connected();
  expect(following.replica.resyncs).toMatchObject({ full: 2, partial: 1 });
  following.disk.removal.resolve();
  await until(() => readdirSync(`${following.path}/generations`).length === 1, {
    what: "the end of both",
  });
});

test.concurrent("a stop doesn't wait for that room", async () => {
  using dir = tempDir("slow-removal");
  await using home = homePrimary();
  await using other = otherPrimary();
  await using following = await waitingForRoom(home, other, dir);
  expect(await following.stop()).toBeUndefined();
  following.disk.removal.resolve();
});
