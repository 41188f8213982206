import { expect } from "bun:test";
import { readdirSync } from "node:fs";
import { fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { freePort } from "../support/ports.ts";
import { startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { startServer } from "../support/servers.ts";
import { smallDisk } from "../support/small-disk.ts";
import { tempDir } from "../support/temp.ts";
import { fill, MIB, onSmallDisk, SEED } from "./small-disk-rig.ts";

onSmallDisk(
  "old generations give way to a full resync that really comes, and not to one that is only announced",
  async () => {
    using temp = tempDir("room-as-it-comes");
    using disk = smallDisk(temp.file("disk"), 60 * MIB);
    expect(disk).toBeDefined();
    const args = ["--repl-diskless-sync-delay", "0"];
    await using primary = await startServer("redis-7.0", { args });
    await using other = await startServer("redis-7.0", { args });
    await fill(primary, 6, SEED);
    await fill(other, 40, SEED);
    const dir = temp.file("disk", "data");
    const port = freePort();
    const more = ["--port", String(port), "--ask-primary", "no"];
    await using replica = startReplica(["follow", primary.url(), "--dir", dir, ...more]);
    await replica.waitForLine(/connected by full resync/);
    for (let id = 2; id <= 7; id++) {
      if (id === 7) await primary.send("FLUSHALL");
      replica.signal("SIGUSR1");
      await replica.waitForLine(new RegExp(`generation ${id} replaces`));
    }
    await replica.waitForLine(/generation 6 stays until as much has been back/);
    const kept = () => readdirSync(`${dir}/generations`).map(Number).toSorted();
    expect(kept()).toEqual([1, 2, 3, 4, 5, 6, 7]);

    await using liar = fakePrimary(async (peer) => {
      await standardHandshake(peer, { replid: "a".repeat(40), offset: 7 });
      await peer.send(`$${50 * MIB}\r\nREDIS0010`);
      await replica.waitForLine(/full resync at offset 7/);
      await peer.close();
    });
    await using client = await RespClient.connect({ port });
    await client.send("REPLICAOF", "127.0.0.1", String(liar.port));
    await replica.waitForLine(/next attempt/);
    expect(kept()).toEqual([1, 2, 3, 4, 5, 6, 7]);

    // Its size isn't known: the free room is used up before it has come whole.
    await client.send("REPLICAOF", "127.0.0.1", String(other.port));
    await replica.waitForLine(/removed generations? 1.* to make room for a full resync:/);
    await replica.waitForLine(/connected by full resync: 40/);
    const stats = await other.info("stats");
    expect([stats["total_forks"], stats["sync_full"]]).toEqual(["1", "1"]);
    // The guarded one stays where the others were enough.
    expect(kept().slice(-3, -1)).toEqual([6, 7]);
    expect(kept().length).toBeLessThan(7);
  },
);
