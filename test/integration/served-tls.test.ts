import { describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync } from "node:fs";
import { connect } from "node:tls";
import { parseInfo } from "../../src/resp/info-text.ts";
import { startCluster } from "../support/cluster.ts";
import { fillAllTypes } from "../support/fill.ts";
import { freePort, freePortsInARow } from "../support/ports.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { runProgram } from "../support/run-program.ts";
import { availableServers, type RealServer, startServer, tool } from "../support/servers.ts";
import { outermost } from "../support/sweep.ts";
import { tempDir, type TempDir } from "../support/temp.ts";
import { type CertificateFiles, certificates } from "../support/tls.ts";
import { until } from "../support/wait.ts";

const { ca, client, server, foreignServer } = certificates;
const withClients = ["--port-tls-ca", ca];
/** How our own programs verify the port, and what they show it. */
const trust = ["--tls-ca", ca, "--tls-cert", client.cert, "--tls-key", client.key];
/** A stock replica that is fed over TLS. */
const fedByTls = [
  "--tls-replication",
  "yes",
  "--repl-ping-replica-period",
  "3600",
  "--tls-client-cert-file",
  client.cert,
  "--tls-client-key-file",
  client.key,
];
const quiet = { args: ["--repl-ping-replica-period", "3600"] };
const tls = { client, insecure: true } as const;

/** Certificate files that a test may replace, and the flags that name them. */
function replaceable(dir: TempDir) {
  const [cert, key] = [dir.file("own.crt"), dir.file("own.key")];
  const put = (from: CertificateFiles) => {
    copyFileSync(from.cert, cert);
    copyFileSync(from.key, key);
    chmodSync(key, 0o600);
  };
  put(server);
  return {
    put,
    port: ["--port-tls-cert", cert, "--port-tls-key", key],
    http: ["--http-tls-cert", cert, "--http-tls-key", key],
  };
}

/** The serial number of the certificate that a port shows. */
async function serialAt(port: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
    resolve(socket.getPeerCertificate().serialNumber);
  });
  socket.on("error", reject);
  const serial = await promise;
  socket.destroy();
  return serial;
}

async function infoOf(port: number): Promise<ReadonlyMap<string, string>> {
  await using asker = await RespClient.connect({ port, tls });
  return parseInfo(String(await asker.send("INFO")));
}

/** Waits until the server has the primary's whole stream, and as its relay knows. */
async function expectSame(primary: RealServer, last: RealServer, relayPort: number) {
  await until(
    async () => {
      const { master_link_status: status } = await last.info("replication");
      return status === "up" && (await last.offset()) === (await primary.offset());
    },
    { what: "the last replica to catch up" },
  );
  expect(await last.digest()).toBe(await primary.digest());
  const end = await primary.offset();
  const acked = async () => (await infoOf(relayPort)).get("slave0")?.includes(`offset=${end},`);
  await until(acked, { what: "its ACK" });
}

describe.each(outermost(availableServers()))("%s", (kind) => {
  test("is fed over TLS: full resync, live stream, ACKs, and a partial resync with a renewed certificate", async () => {
    using dir = tempDir("served-tls");
    await using primary = await startServer(kind, quiet);
    await fillAllTypes(primary, { keys: 1_000, seed: 5 });
    const own = replaceable(dir);
    const port = freePort();
    await using relay = startReplica([
      "follow",
      primary.url(),
      "--dir",
      dir.file("data"),
      "--port",
      String(port),
      ...own.port,
      ...withClients,
      "--retry-max",
      "200ms",
    ]);
    await relay.waitForLine(/connected by full resync/);
    await using last = await startServer(kind, {
      tls: { clients: "no" },
      args: [...fedByTls, "--replicaof", `127.0.0.1 ${port}`],
    });
    await expectSame(primary, last, port);
    await primary.send("SET", "live", "over TLS");
    await expectSame(primary, last, port);

    const before = await serialAt(port);
    own.put(certificates.wrongHost);
    relay.signal("SIGHUP");
    await relay.waitForLine(/SIGHUP: new connections get the certificate/);
    expect(await serialAt(port)).not.toBe(before);
    // Redis verifies no names. Whoever was attached still is, until it is disconnected.
    await primary.send("SET", "after", "the renewal");
    await expectSame(primary, last, port);
    expect((await infoOf(port)).get("sync_full")).toBe("1");
    await using asker = await RespClient.connect({ port: primary.port });
    await last.send("CLIENT", "KILL", "TYPE", "master");
    await asker.send("SET", "while", "it is away");
    await expectSame(primary, last, port);
    const info = await infoOf(port);
    expect([info.get("sync_full"), info.get("sync_partial_ok")]).toEqual(["1", "1"]);
  }, 150_000);

  test("redis-cli --tls reads the port, and without TLS it is told nothing", async () => {
    using dir = tempDir("served-tls");
    const port = freePort();
    const own = replaceable(dir);
    await using replica = startReplica([
      "follow",
      "redis://127.0.0.1:1",
      "--dir",
      dir.file("data"),
      "--port",
      String(port),
      ...own.port,
      ...withClients,
    ]);
    await replica.waitForLine(/serving 127\.0\.0\.1/);
    const cli = async (...args: string[]) =>
      await runProgram([...tool(kind, "redis-cli"), "-p", String(port), ...args]);
    const files = ["--tls", "--cacert", ca, "--cert", client.cert, "--key", client.key];
    const { stdout } = await cli(...files, "CONFIG", "GET", "*port");
    expect(stdout.split("\n")).toEqual(
      expect.arrayContaining(["port", "0", "tls-port", String(port)]),
    );
    expect((await cli(...files, "INFO", "server")).stdout).toContain(
      `listener0:name=tls,bind=127.0.0.1,port=${port}`,
    );
    const plain = await cli("INFO");
    expect(plain.stdout).not.toContain("redis_version");
    await replica.waitForLine(/disconnected a client that does not speak TLS/);
  }, 150_000);
});

test("a replica follows a replica by rediss://, and none follows itself", async () => {
  using dir = tempDir("served-tls");
  await using primary = await startServer("redis-7.0", quiet);
  await fillAllTypes(primary, { keys: 500, seed: 6 });
  const own = replaceable(dir);
  const [first, second] = [freePort(), freePort()];
  const follow = (url: string, name: string, port: number) =>
    startReplica([
      "follow",
      url,
      "--dir",
      dir.file(name),
      "--port",
      String(port),
      "--retry-max",
      "200ms",
      ...own.port,
      ...withClients,
      ...trust,
    ]);
  await using relay = follow(primary.url(), "first", first);
  await relay.waitForLine(/connected by full resync/);
  await using chained = follow(`rediss://127.0.0.1:${first}`, "second", second);
  await chained.waitForLine(/connected by full resync/);
  await primary.send("SET", "through", "both");
  const end = String(await primary.offset());
  await until(async () => (await infoOf(second)).get("slave_repl_offset") === end, {
    what: "the stream to come through",
  });
  await using itself = follow(`rediss://127.0.0.1:${freePort()}`, "third", freePort());
  const [, own3] = await itself.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
  await using asker = await RespClient.connect({ port: Number(own3), tls });
  expect(await asker.send("REPLICAOF", "127.0.0.1", own3!)).toBe("OK");
  await itself.waitForLine(/is this replica itself/);
  await using plain = startReplica([
    "follow",
    `redis://127.0.0.1:${first}`,
    "--dir",
    dir.file("fourth"),
    "--port",
    "0",
  ]);
  await plain.waitForLine(/the primary speaks TLS: use rediss:\/\//);
  const [, at] = await plain.waitForLine(/serving (127\.0\.0\.1:\d+)/);
  const { stderr } = await runReplica(["status", `rediss://${at}`, "--tls-ca", ca]);
  expect(stderr).toContain("it doesn't speak it: leave out rediss://");
}, 150_000);

test("status, HTTPS and their renewal: each works, or says what to do", async () => {
  using dir = tempDir("served-tls");
  await using primary = await startServer("redis-7.0", quiet);
  const own = replaceable(dir);
  const [port, http] = [freePort(), freePort()];
  await using replica = startReplica([
    "follow",
    primary.url(),
    "--dir",
    dir.file("data"),
    "--port",
    String(port),
    ...own.port,
    "--http",
    `127.0.0.1:${http}`,
    ...own.http,
  ]);
  await replica.waitForLine(/connected by full resync/);
  await replica.waitForLine(/serving metrics and health at https:\/\//);
  const at = `127.0.0.1:${port}`;
  const status = async (...args: string[]) => {
    const { exitCode, stdout, stderr } = await runReplica(["status", ...args]);
    return exitCode === 0 ? stdout.split("\n", 1)[0]! : stderr;
  };
  const ready = `${at} is ready`;
  await until(async () => (await status("--port", String(port), ...own.port)).startsWith(ready), {
    what: "its own status",
  });
  expect(await status(`rediss://${at}`, "--tls-ca", ca)).toStartWith(ready);
  expect(await status(`rediss://${at}`, "--tls-insecure")).toStartWith(ready);
  expect(await status(at)).toContain(`${at} speaks TLS: give rediss://HOST:PORT with --tls-ca`);
  expect(await status(`rediss://${at}`)).toContain("check --tls-ca");
  const health = async (authority: string) =>
    await fetch(`https://localhost:${http}/healthz`, {
      tls: { ca: await Bun.file(authority).text() },
    }).then(
      async (answer) => await answer.text(),
      () => "refused",
    );
  expect(await health(ca)).toBe("ok\n");
  own.put(foreignServer);
  expect(await status("--port", String(port), ...own.port)).toContain(
    "send the replica SIGHUP if that one is new",
  );
  replica.signal("SIGHUP");
  await until(async () => (await health(certificates.foreignCa)) === "ok\n", {
    what: "the new certificate",
  });
  expect(await health(ca)).toBe("refused");
  expect(await status("--port", String(port), ...own.port)).toStartWith(ready);
  expect(await status(`rediss://${at}`, "--tls-ca", ca)).toContain("check --tls-ca");
  expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
}, 150_000);

test("every shard of a cluster feeds over TLS at --relay-ports, and SIGHUP renews all", async () => {
  using dir = tempDir("served-tls");
  await using cluster = await startCluster("redis-7.0", { shards: 3, replicas: 0 });
  const own = replaceable(dir);
  const [port, relays] = [freePort(), freePortsInARow(3)];
  await using replica = startReplica([
    "follow",
    cluster.url(),
    "--dir",
    dir.file("data"),
    "--port",
    String(port),
    ...own.port,
    "--relay-ports",
    String(relays),
  ]);
  const ports = [port, relays, relays + 1, relays + 2];
  for (const one of ports.slice(1)) {
    await replica.waitForLine(new RegExp(`serving this shard at 127\\.0\\.0\\.1:${one}`));
  }
  await until(async () => (await infoOf(relays)).get("master_link_status") === "up", {
    what: "the first shard to be followed",
  });
  await using last = await startServer("redis-7.0", {
    tls: { clients: "no" },
    args: [...fedByTls, "--replicaof", `127.0.0.1 ${relays}`],
  });
  await until(async () => (await last.info("replication"))["master_link_status"] === "up", {
    what: "the relay's replica to be fed",
  });
  const before = await Promise.all(ports.map(serialAt));
  own.put(foreignServer);
  replica.signal("SIGHUP");
  await replica.waitForLine(/SIGHUP: new connections get the certificate/);
  const after = await Promise.all(ports.map(serialAt));
  expect(new Set(before).size).toBe(1);
  expect(after.every((serial) => serial === after[0] && serial !== before[0])).toBe(true);
  expect((await last.info("replication"))["master_link_status"]).toBe("up");
}, 150_000);
