import { describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { serveHttp } from "../../src/service/http.ts";
import { Metrics } from "../../src/service/metrics.ts";
import { realDisk } from "../../src/store/disk.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { encodeCommand } from "../support/resp.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SET = encodeCommand(["SET", "key", "value"]);

/** A replica whose metrics are served; `readyLagMs` as --ready-lag. */
async function served(readyLagMs = 10_000) {
  const dir = tempDir("http");
  const primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await peer.send(bulkPayload(smallRdb("a value")));
  });
  const disk = new FaultyDisk();
  const metrics = new Metrics();
  const following = follow(primary.url, disk, dir);
  metrics.of(following.replica, realDisk, "1.2.3");
  const http = serveHttp({ host: "127.0.0.1", port: 0, readyLagMs }, metrics, following.replica);
  return {
    ...following,
    disk,
    primary,
    httpPort: http.port,
    get: (path: string, init?: RequestInit) => fetch(`http://127.0.0.1:${http.port}${path}`, init),
    [Symbol.asyncDispose]: async () => {
      http.stop();
      await following[Symbol.asyncDispose]();
      await primary.stop();
      dir.remove();
    },
  };
}

/** Samples by their line up to the value. */
function samplesOf(text: string): Map<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

describe("HTTP", () => {
  test("/metrics is Prometheus's text, and holds what the replica knows", async () => {
    await using replica = await served();
    await replica.connected();
    await replica.primary.peers[0]!.send(SET);
    await until(() => replica.replica.log?.durableOffset === 100 + SET.length, {
      what: "the durable byte",
    });
    const response = await replica.get("/metrics");
    expect(response.headers.get("content-type")).toStartWith("text/plain; version=0.0.4");
    const text = await response.text();
    const samples = samplesOf(text);
    const expected: [string, number][] = [
      ["replica_link_up", 1],
      ['replica_state{state="connected"}', 1],
      ['replica_state{state="transfer"}', 0],
      ['replica_offset_bytes{cursor="durable"}', 100 + SET.length],
      ["replica_durable_lag_bytes", 0],
      ["replica_durable_lag_seconds", 0],
      ["replica_generation_id", 1],
      ['replica_generations{state="current"}', 1],
      ["replica_log_bytes", SET.length + encodeCommand(["SELECT", 0]).length],
      ['replica_received_bytes_total{phase="stream"}', SET.length],
      ['replica_received_bytes_total{phase="snapshot"}', smallRdb("a value").length],
      ['replica_syncs_total{kind="full",reason="nothing-kept"}', 1],
      ['replica_build_info{version="1.2.3"}', 1],
    ];
    for (const [name, value] of expected) expect([name, samples.get(name)]).toEqual([name, value]);
    expect(samples.get("replica_disk_free_bytes")).toBeGreaterThan(0);
    // Asked again, what is counted is the same.
    const again = samplesOf(await (await replica.get("/metrics")).text());
    expect(again.get('replica_received_bytes_total{phase="stream"}')).toBe(SET.length);
  });

  test("the time of data syncs is kept, those that fail too", async () => {
    const disk = new FaultyDisk({ operation: "syncData", call: 2, code: "EIO" });
    const metrics = new Metrics();
    const timed = metrics.timed({ ...realDisk, syncData: (fd) => disk.syncData(fd) });
    using dir = tempDir("fsync");
    const fd = disk.create(dir.file("file"));
    await timed.syncData(fd);
    await expect(timed.syncData(fd)).rejects.toThrow("EIO");
    disk.close(fd);
    expect(samplesOf(await metrics.text()).get("replica_fsync_duration_seconds_count")).toBe(2);
  });

  test("/healthz while it lives, /readyz while it follows and is durable", async () => {
    await using replica = await served(1_000);
    await replica.connected();
    expect((await replica.get("/healthz")).status).toBe(200);
    expect((await replica.get("/readyz")).status).toBe(200);
    const held = replica.disk.hold("syncData");
    await replica.primary.peers[0]!.send(SET);
    const late = await until(
      async () => {
        const response = await replica.get("/readyz");
        return response.status === 503 ? await response.text() : undefined;
      },
      { what: "it to say that it is not ready" },
    );
    expect(late).toMatch(/^not ready: what came \d+ s ago is not durable yet/);
    held.release();
    await until(async () => (await replica.get("/readyz")).status === 200, { what: "ready again" });
    replica.replica.leave();
    expect(await (await replica.get("/readyz")).text()).toBe(
      "not ready: the link is in state none\n",
    );
    expect((await replica.get("/healthz")).status).toBe(200);
  });

  test("a page for people, which can't be made to say something else", async () => {
    await using replica = await served();
    await replica.connected();
    const response = await replica.get("/");
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(await response.text()).toContain("<td>connected");
  });

  test("other pages and verbs are refused; a body too large, and half a request too", async () => {
    await using replica = await served();
    expect((await replica.get("/nothing")).status).toBe(404);
    expect((await replica.get("/metrics", { method: "POST", body: "x" })).status).toBe(405);
    expect((await replica.get("/metrics", { method: "DELETE" })).status).toBe(405);
    expect((await replica.get("/metrics", { method: "HEAD" })).status).toBe(200);
    const large = await replica.get("/metrics", { method: "POST", body: "x".repeat(1_000_000) });
    expect(large.status).toBeGreaterThanOrEqual(400);
    const sockets = Array.from({ length: 50 }, () => {
      const socket = connect(replica.httpPort, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.write("GET /metrics HTTP/1.1\r\nHost: ");
      return socket;
    });
    expect((await replica.get("/healthz")).status).toBe(200);
    for (const socket of sockets) socket.destroy();
  });
});
