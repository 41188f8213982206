import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import type { Socket } from "bun";
import { RespClient } from "../support/resp-client.ts";
import { startReplica } from "../support/replica-process.ts";
import { startServer } from "../support/servers.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { certificates } from "../support/tls.ts";
import { until } from "../support/wait.ts";
import { followArgs } from "./bad-input-rig.ts";

/** What runs a program whose /etc/hosts is this folder's. */
function withHosts(dir: TempDir): readonly string[] {
  write(dir, "127.0.0.1 localhost");
  const script = `mount --bind "$0" /etc/hosts && exec "$@"`;
  return ["unshare", "--mount", "sh", "-c", script, dir.file("hosts")];
}

/** A mount that isn't there by then is none; nothing else in the test's process runs meanwhile. */
const MOUNT_MS = 20_000;

/** Whether this user may give a program a file of its own in place of /etc/hosts. */
function mayMount(): boolean {
  using dir = tempDir("hosts");
  const { success } = Bun.spawnSync([...withHosts(dir), "true"], {
    stdout: "ignore",
    stderr: "ignore",
    timeout: MOUNT_MS,
  });
  if (!success) console.warn("this user may not mount: a host name that moves is NOT tested here");
  return success;
}

/** Replaces the content of the file, which stays the same one. */
function write(dir: TempDir, ...lines: string[]): void {
  writeFileSync(dir.file("hosts"), lines.map((line) => `${line}\n`).join(""));
}

/** Serves at an address of its own what a server serves at another. */
function forward(hostname: string, port: number, to: number) {
  const ends = new Map<Socket, Promise<Socket>>();
  const listener = Bun.listen({
    hostname,
    port,
    socket: {
      open: (client) => {
        const socket = {
          data: (_: Socket, bytes: Uint8Array) => void client.write(bytes),
          close: () => void client.end(),
        };
        ends.set(client, Bun.connect({ hostname: "127.0.0.1", port: to, socket }));
      },
      data: async (client, bytes) => void (await ends.get(client))?.write(bytes),
      close: async (client) => void (await ends.get(client))?.end(),
    },
  });
  return { hostname, [Symbol.asyncDispose]: async () => listener.stop(true) };
}

const IS_TESTED = mayMount();

test.skipIf(!IS_TESTED)(
  "a primary whose name moves to another address is followed there at the next attempt",
  async () => {
    using dir = tempDir("hosts");
    const under = withHosts(dir);
    write(dir, "127.0.0.1 localhost", "127.0.0.1 primary.test");
    await using primary = await startServer("redis-7.0");
    const { port } = primary;
    await using other = await startServer("redis-7.0", {
      args: ["--replicaof", "127.0.0.1", String(port)],
    });
    await until(async () => (await other.info("replication"))["master_link_status"] === "up", {
      what: "the real replica to be connected",
    });
    await using moved = forward("127.0.0.2", port, other.port);
    const args = followArgs(
      `redis://primary.test:${port}`,
      dir.file("data"),
      "--log-level",
      "debug",
    );
    await using replica = startReplica(args, { under });
    await replica.waitForLine(/connected by full resync/);
    await primary.send("SET", "key", "1");
    await primary.acknowledgedBy(2);
    await primary.kill9();
    await other.send("REPLICAOF", "NO", "ONE");
    const failures = () => replica.stderr.match(/nothing listens there/g)?.length ?? 0;
    await until(() => failures() > 2, { what: "attempts at the old address" });

    write(dir, "127.0.0.1 localhost", `${moved.hostname} primary.test`);
    const before = failures();
    await replica.waitForLine(/connected by partial resync/);
    // Two may have been on their way; a cache would take half a minute of them, at 20 ms each.
    expect(failures() - before).toBeLessThanOrEqual(3);
    expect(await other.send("SET", "after", "1")).toBe("OK");
    await other.acknowledgedBy(1);
  },
);

test.skipIf(!IS_TESTED)(
  "REPLICAOF by a name that moves follows it, too; TLS verifies the name, not its address",
  async () => {
    using dir = tempDir("hosts");
    const under = withHosts(dir);
    write(dir, "127.0.0.1 localhost elsewhere.example", "::1 elsewhere.example");
    const args = ["--tls-cert-file", certificates.wrongHost.cert];
    args.push("--tls-key-file", certificates.wrongHost.key);
    await using primary = await startServer("redis-7.0", { tls: { clients: "no" }, args });
    const url = `rediss://elsewhere.example:${primary.tlsPort}`;
    const trust = ["--tls-ca", certificates.ca];
    await using replica = startReplica(followArgs(url, dir.file("data"), ...trust), { under });
    // Nothing listens at ::1, which may come first.
    await replica.waitForLine(/connected by full resync/);
    const [, own = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
    await using client = await RespClient.connect({ port: Number(own) });
    write(dir, "127.0.0.1 localhost elsewhere.example wrong.example");
    await client.send("REPLICAOF", "wrong.example", String(primary.tlsPort));
    await replica.waitForLine(/TLS: .*(host|altname).*; check --tls-ca, --tls-server-name/i);
    await client.send("REPLICAOF", "elsewhere.example", String(primary.tlsPort));
    await replica.waitForLine(/connected by partial resync/);
  },
);
