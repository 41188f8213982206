import { describe, expect, test } from "bun:test";
import { fillAllTypes } from "../support/fill.ts";
import { freePort } from "../support/ports.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { availableServers, type RealServer, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** INFO's fields of a replica's own port. */
async function infoOf(port: number): Promise<Record<string, string>> {
  await using client = await RespClient.connect({ port });
  const text = String(await client.send("INFO"));
  return Object.fromEntries(
    text.split("\r\n").map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1)];
    }),
  );
}

/** A replica of `url` in `dir`, whose port stays the same over its restarts. */
async function relayOf(url: string, dir: string, port: number): Promise<ReplicaProcess> {
  const argv = ["follow", url, "--dir", dir, "--port", String(port), "--retry-max", "200ms"];
  const replica = startReplica(argv);
  await replica.waitForLine(/connected by (full|partial) resync/);
  return replica;
}

/** Everything that the primary has put into its stream has come to this replica of a replica. */
async function caughtUp(primary: RealServer, last: RealServer): Promise<void> {
  await until(
    async () => {
      const { master_link_status: status } = await last.info("replication");
      return status === "up" && (await last.offset()) === (await primary.offset());
    },
    { timeoutMs: 30_000, what: "the last replica to have all that the primary has" },
  );
}

async function expectSame(primary: RealServer, last: RealServer): Promise<void> {
  await caughtUp(primary, last);
  expect(await last.digest()).toBe(await primary.digest());
}

async function writeSome(server: RealServer, name: string): Promise<void> {
  await server.sendAll([
    ["SELECT", 3],
    ...Array.from({ length: 200 }, (_, i) => ["RPUSH", `${name}:${i % 7}`, i]),
    ["SELECT", 0],
    ["SET", name, "in database 0"],
  ]);
}

/** No PING of its own in the stream, so that the offsets stand still while nothing is written. */
const quiet = { args: ["--repl-ping-replica-period", "3600"] };

describe.each(availableServers())("%s", (kind) => {
  test("is fed with the snapshot and the stream, at no cost of the primary's", async () => {
    await using primary = await startServer(kind, quiet);
    await fillAllTypes(primary, { keys: 2_000, seed: 3 });
    using dir = tempDir("relay");
    const port = freePort();
    await using relay = await relayOf(primary.url(), dir.file("data"), port);
    const before = await primary.info("stats");
    await writeSome(primary, "before it comes");
    await using last = await startServer(kind, quiet);
    await last.send("REPLICAOF", "127.0.0.1", port);
    await relay.waitForLine(/downstream 127\.0\.0\.1:\d+ attached: full resync at offset \d+/);
    await relay.waitForLine(/downstream 127\.0\.0\.1:\d+ was sent its snapshot/);
    await expectSame(primary, last);
    await writeSome(primary, "live");
    await expectSame(primary, last);
    const after = await primary.info("stats");
    for (const name of ["total_forks", "sync_full", "sync_partial_ok", "sync_partial_err"]) {
      expect(after[name]).toBe(before[name]!);
    }
    const { master_replid } = await primary.info("replication");
    expect((await last.info("replication"))["master_replid"]).toBe(master_replid!);
    const info = await infoOf(port);
    expect([info["sync_full"], info["connected_slaves"]]).toEqual(["1", "1"]);
  }, 60_000);
});
