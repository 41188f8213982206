import { expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { thrownBy } from "../support/error-of.ts";
import { serveHttp } from "../../src/monitor/http.ts";
import { replicaView } from "../../src/monitor/document/replica-view.ts";
import { Metrics } from "../../src/monitor/metrics.ts";
import { parseInfo } from "../../src/resp/info-text.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { parseExposition } from "../support/exposition.ts";
import { follow } from "../support/following.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { smallRdb } from "../integration/bad-input-rig.ts";
import { around } from "../support/view.ts";

/** A primary whose snapshots have these sizes, each of another history. */
function shrinking(sizes: readonly number[]) {
  let served = 0;
  return fakePrimary(async (peer) => {
    const at = Math.min(served++, sizes.length - 1);
    await standardHandshake(peer, { replid: String(at).repeat(40), offset: 100 });
    await peer.send(bulkPayload(smallRdb("value", sizes[at])));
  });
}

test("a data set that shrinks shows everywhere, until somebody says that it is right", async () => {
  using dir = tempDir("shrunken");
  await using primary = shrinking([10_000, 10, 20]);
  await using replica = follow(primary.url, realDisk, dir, { keep: "0", "keep-for": "off" });
  const metrics = new Metrics();
  metrics.of(replica.status, "1.2.3");
  const about = { host: "127.0.0.1", port: 0, names: [] };
  const http = serveHttp(about, metrics, replicaView(replica.status, around()));
  const get = async (path: string) =>
    await (await fetch(`http://127.0.0.1:${http.port}${path}`)).text();
  await replica.connected();
  await using client = await RespClient.connect({ port: replica.port });
  const shown = async () => {
    const samples = parseExposition(await get("/metrics")).flatMap((one) => one.samples);
    const info = parseInfo(String(await client.send("INFO", "replica")));
    return {
      metric: samples.find(({ name }) => name === "replica_shrunken")?.value,
      info: info.get("shrunken"),
      from: info.get("shrunken_from"),
      page: (await get("/")).includes("less than half of generation 1 ("),
    };
  };
  const another = async (id: number) => {
    await primary.peers.at(-1)!.reset();
    await until(
      () =>
        replica.replica.directory.current?.id === id && replica.replica.state.at === "connected",
      {
        what: `generation ${id}`,
      },
    );
  };
  try {
    expect(await shown()).toEqual({ metric: 0, info: "0", from: "", page: false });
    await another(2);
    const small = { metric: 1, info: "1", from: "generation 1: 9.8 KiB", page: true };
    expect(await shown()).toEqual(small);
    await another(3);
    expect(await shown()).toEqual(small);
    // Nothing is kept beside the current one but what is guarded.
    await until(() => replica.replica.directory.keeping.counts.old === 1, { what: "the removal" });
    expect(await thrownBy(client.send("REPLICA", "ACCEPT", "more"))).toThrow("wrong number");
    expect(await thrownBy(client.send("REPLICA", "REFUSE"))).toThrow("unknown subcommand");
    expect(String(await client.send("REPLICA", "HELP"))).toContain("ACCEPT");
    expect(await shown()).toEqual(small);
    expect(await client.send("REPLICA", "ACCEPT")).toBe("OK");
    expect(await client.send("REPLICA", "ACCEPT")).toBe("OK");
    expect(await shown()).toEqual({ metric: 0, info: "0", from: "", page: false });
  } finally {
    http.stop();
  }
  using db = new Database(join(replica.path, "replica.db"), { readonly: true });
  const ids = db
    .query("SELECT id FROM generations WHERE state <> 'receiving' ORDER BY id")
    .values();
  expect(ids.flat()).toEqual([1, 3]);
});
