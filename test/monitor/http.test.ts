import { describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { thrownBy } from "../support/error-of.ts";
import { serveHttp } from "../../src/monitor/http.ts";
import { replicaView } from "../../src/monitor/document/replica-view.ts";
import { Metrics } from "../../src/monitor/metrics.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import type { ReplicaStatus } from "../../src/replica/status.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { encodeCommand } from "../support/resp.ts";
import { tempDir } from "../support/temp.ts";
import { around } from "../support/view.ts";
import { until } from "../support/wait.ts";

const SET = encodeCommand(["SET", "key", "value"]);
/** What the primary says once its first link is gone. */
const MARKUP = `<script src="//evil">'&`;

/** A replica whose metrics are served. @param readyLagMs as --ready-lag. */
async function served(readyLagMs = 10_000) {
  const dir = tempDir("http");
  const primary = fakePrimary(async (peer) => {
    if (peer.index > 0) return await peer.send(`-ERR ${MARKUP}\r\n`);
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await peer.send(bulkPayload(smallRdb("a value")));
  });
  const disk = new FaultyDisk();
  const metrics = new Metrics();
  const following = follow(primary.url, disk, dir);
  metrics.of(following.status, "1.2.3");
  const about = { host: "127.0.0.1", port: 0, names: ["x", "Replica.example"] };
  const http = serveHttp(about, metrics, replicaView(following.status, around(readyLagMs)));
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

/** A connection that sends bytes as they are. */
class RawHttp implements Disposable {
  readonly socket: Socket;
  heard = "";
  isClosed = false;

  constructor(port: number, bytes: string) {
    this.socket = connect(port, "127.0.0.1");
    this.socket.on("error", () => undefined);
    this.socket.on("data", (data) => (this.heard += data.toString("latin1")));
    this.socket.on("close", () => (this.isClosed = true));
    this.socket.write(Buffer.from(bytes, "latin1"));
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** The value of each sample, by its name and labels. */
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
  test("/metrics serves the state of the replica in Prometheus's text format", async () => {
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
      ["replica_snapshots_on_disk_bytes", smallRdb("a value").length],
      ['replica_build_info{version="1.2.3"}', 1],
    ];
    for (const [name, value] of expected) expect([name, samples.get(name)]).toEqual([name, value]);
    expect(samples.get("replica_disk_free_bytes")).toBeGreaterThan(0);
    // A second scrape does not count anything twice.
    const again = samplesOf(await (await replica.get("/metrics")).text());
    expect(again.get('replica_received_bytes_total{phase="stream"}')).toBe(SET.length);
  });

  test("records the time of each fsync, including those that fail", async () => {
    const disk = new FaultyDisk({ operation: "syncData", call: 2, code: "EIO" });
    const metrics = new Metrics();
    const timed = metrics.timed({ ...realDisk, syncData: (fd) => disk.syncData(fd) });
    using dir = tempDir("fsync");
    const fd = disk.create(dir.file("file"));
    await timed.syncData(fd);
    expect(await thrownBy(timed.syncData(fd))).toThrow("EIO");
    disk.close(fd);
    expect(samplesOf(await metrics.text()).get("replica_fsync_duration_seconds_count")).toBe(2);
  });

  test("scrapes that come together share one reading, and the next one is read anew", async () => {
    let reads = 0;
    const count = (): never => {
      reads++;
      throw new Error("not known");
    };
    const metrics = new Metrics();
    metrics.of(new Proxy({} as ReplicaStatus, { get: count }), "1.2.3");
    const together = Array.from({ length: 100 }, () => metrics.text());
    expect(new Set(await Promise.all(together)).size).toBe(1);
    const once = reads;
    expect(once).toBeGreaterThan(0);
    // What is asked for before the event loop turns belongs to the same scrape.
    await metrics.text();
    expect(reads).toBe(once);
    await new Promise(setImmediate);
    await metrics.text();
    expect(reads).toBe(2 * once);
  });

  test("/healthz succeeds while the process lives, /readyz while it follows and is durable", async () => {
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
    expect(late).toMatch(/^not ready: bytes received \d+ s ago are not durable yet/);
    held.release();
    await until(async () => (await replica.get("/readyz")).status === 200, { what: "ready again" });
    replica.replica.leave();
    expect(await (await replica.get("/readyz")).text()).toBe(
      "not ready: the link is in state none\n",
    );
    expect((await replica.get("/healthz")).status).toBe(200);
  });

  test("serves a status page that takes nothing that a peer says for HTML, and allows no outside content", async () => {
    await using replica = await served();
    await replica.connected();
    const response = await replica.get("/");
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(await response.text()).toContain("<td>connected");
    await replica.primary.peers[0]!.close();
    const page = await until(
      async () => {
        const text = await (await replica.get("/")).text();
        return text.includes("answers PING with -ERR") && text;
      },
      { what: "the page to show what the primary says" },
    );
    expect(page).toContain(`-ERR ${Bun.escapeHTML(MARKUP)}`);
    expect(page).not.toContain(MARKUP);
    const ready = await replica.get("/readyz");
    expect(await ready.text()).toContain(MARKUP);
    expect(ready.headers.get("content-type")).toStartWith("text/plain");
    expect(ready.headers.get("x-content-type-options")).toBe("nosniff");
  });

  test("refuses other paths, other methods and large bodies", async () => {
    await using replica = await served();
    expect((await replica.get("/nothing")).status).toBe(404);
    expect((await replica.get("/metrics", { method: "POST", body: "x" })).status).toBe(405);
    expect((await replica.get("/metrics", { method: "DELETE" })).status).toBe(405);
    expect((await replica.get("/metrics", { method: "HEAD" })).status).toBe(200);
    const large = await replica.get("/metrics", { method: "POST", body: "x".repeat(1_000_000) });
    expect(large.status).toBeGreaterThanOrEqual(400);
  });

  test("refuses malformed requests", async () => {
    await using replica = await served();
    const told: [string, RegExp][] = [
      ["GET / HTTP/1.1\r\nHost: [[[:x\r\n\r\n", /^HTTP\/1\.1 400 /],
      ["GET / HTTP/1.1\r\n\r\n", /^HTTP\/1\.1 400 /],
      ["GET //nothing HTTP/1.1\r\nHost: x\r\n\r\n", /^HTTP\/1\.1 404 /],
      ["GET /__proto__ HTTP/1.1\r\nHost: x\r\n\r\n", /^HTTP\/1\.1 404 /],
      ["\x00\x01\xff\r\n\r\n", /^HTTP\/1\.1 400 /],
      ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", /^HTTP\/1\.1 400 /],
      [`GET / HTTP/1.1\r\nHost: x\r\nX: ${"x".repeat(2 ** 20)}\r\n\r\n`, /^HTTP\/1\.1 431 /],
    ];
    for (const [bytes, says] of told) {
      using socket = new RawHttp(replica.httpPort, bytes);
      await until(() => says.test(socket.heard), { what: `the answer to ${bytes.slice(0, 40)}` });
    }
    expect((await replica.get("/healthz")).status).toBe(200);
  });

  test("answers one request of a connection, however many it sends", async () => {
    await using replica = await served();
    for (const path of ["/healthz", "/metrics", "/", "/nothing"]) {
      const request = `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
      using socket = new RawHttp(replica.httpPort, request.repeat(2_000));
      await until(() => socket.isClosed, { what: `the end of ${path}` });
      expect(socket.heard.match(/HTTP\/1\.1 \d{3}/g)).toHaveLength(1);
      expect(socket.heard).toMatch(/\r\nconnection: close\r\n/i);
    }
  });

  test("serves a thousand connections, and closes those that never finish a request", async () => {
    await using replica = await served();
    const whole = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    const many = Array.from({ length: 1_000 }, () => new RawHttp(replica.httpPort, whole));
    await until(() => many.every(({ heard }) => heard.startsWith("HTTP/1.1 200")), {
      what: "a thousand answers",
    });
    for (const one of many) one[Symbol.dispose]();
    const slow = [
      "",
      "GET /hea",
      "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ",
      "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
    ].map((bytes) => new RawHttp(replica.httpPort, bytes));
    // A byte now and then does not extend the timeout.
    const drip = setInterval(() => {
      for (const { socket } of slow.slice(1)) if (socket.writable) socket.write("a");
    }, 1000);
    await until(() => slow.every(({ isClosed }) => isClosed), {
      what: "the slow to be cut off",
    });
    clearInterval(drip);
    expect((await replica.get("/healthz")).status).toBe(200);
  });
});

test("answers no request for another host: a name may lead here for the sake of a page from elsewhere", async () => {
  await using replica = await served();
  const statusFor = async (path: string, host: string) => {
    using raw = new RawHttp(replica.httpPort, `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    await until(() => raw.isClosed, { what: "the answer" });
    return [/^HTTP\/1\.[01] (\d+)/.exec(raw.heard)?.[1], raw.heard.split("\r\n\r\n")[1]];
  };
  for (const host of [
    "evil.example",
    "evil.example:80",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "x.y",
    "notlocalhost",
  ]) {
    for (const path of ["/", "/metrics", "/healthz", "/readyz", "/nothing"]) {
      const [status, text] = await statusFor(path, host);
      expect([host, path, status]).toEqual([host, path, "421"]);
      const name = host.replace(":80", "");
      expect(text).toBe(`misdirected: give --http-host if "${name}" is a name of this replica\n`);
    }
  }
  const own = [
    "localhost",
    "LOCALHOST:1",
    "localhost.",
    "127.0.0.1",
    "10.0.0.7:6395",
    "[::1]:6395",
    "x",
    "replica.example:6395",
  ];
  for (const host of own) {
    expect([host, (await statusFor("/healthz", host))[0]]).toEqual([host, "200"]);
  }
});
