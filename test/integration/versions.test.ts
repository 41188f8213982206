import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { fillAllTypes } from "../support/fill.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import {
  availableServers,
  type RealServer,
  SERVER_KINDS,
  type ServerKind,
  serverVersion,
  startServer,
} from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/**
 * Whether another server (the column) can read a primary's data (the row), fed by the replica or started on
 * a restored folder. relay.test.ts and restore.test.ts cover a server's own data. The RDB versions are 10,
 * 12, 11, and Valkey 9's own, which begins with "VALKEY".
 */
const MATRIX: Readonly<Record<ServerKind, readonly Cell[]>> = {
  //            redis-7.0  redis-8.0  valkey-8.1  valkey-9
  "redis-7.0": ["own", "reads", "reads", "reads"],
  "redis-8.0": ["refuses", "own", "refuses", "refuses"],
  "valkey-8.1": ["refuses", "reads", "own", "reads"],
  "valkey-9": ["refuses", "refuses", "refuses", "own"],
};
type Cell = "own" | "reads" | "refuses";

const here = availableServers();

/** The other servers with this cell in the primary's row. */
function othersThat(cell: Cell, primary: ServerKind): ServerKind[] {
  return SERVER_KINDS.filter((kind, i) => MATRIX[primary][i] === cell && here.includes(kind));
}

/** The log line of a server that can't read a snapshot: a later version, or another magic. */
const REFUSED = /Can't handle RDB format version \d+|Wrong signature trying to load DB/;

async function caughtUp(primary: RealServer, last: RealServer): Promise<void> {
  await until(
    async () => {
      const { master_link_status: status } = await last.info("replication");
      return status === "up" && (await last.offset()) === (await primary.offset());
    },
    { what: `${last.kind} to catch up with ${primary.kind}` },
  );
}

/** Restores everything and boots a server on it. */
async function checkWith(kind: ServerKind, dir: TempDir, layout: string, more: string[] = []) {
  const server = serverScript(dir, kind);
  const target = dir.file(`${kind}-${layout}${more.join("-")}`);
  const words = ["restore", dir.file("data"), target, "--layout", layout, ...more];
  return await runReplica([...words, "--check", "--digest", "--server", server, "--json"]);
}

/** As `--for` names it: "valkey-9.1". */
function targetOf(kind: ServerKind): string {
  return `${kind.split("-")[0]}-${/^\d+\.\d+/.exec(serverVersion(kind))?.[0]}`;
}

describe.each(here)("of %s", (kind) => {
  test("every other server can be fed and started from a restore, or refuses the snapshot", async () => {
    using dir = tempDir("versions");
    await using primary = await startServer(kind, {
      args: ["--repl-ping-replica-period", "3600"],
    });
    await fillAllTypes(primary, { keys: 1_000, seed: 11 });
    await using replica = startReplica([
      "follow",
      primary.url(),
      "--dir",
      dir.file("data"),
      "--port",
      "0",
    ]);
    const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
    await replica.waitForLine(/connected by full resync/);

    await using others = new AsyncDisposableStack();
    const fed = async (kinds: readonly ServerKind[]) => {
      const servers: RealServer[] = [];
      for (const other of kinds) {
        const server = others.use(await startServer(other));
        await server.send("REPLICAOF", "127.0.0.1", Number(port));
        servers.push(server);
      }
      return servers;
    };
    // The refusing servers keep reconnecting while the others are fed.
    const refusing = await fed(othersThat("refuses", kind));
    for (const server of refusing) {
      await until(() => REFUSED.test(server.log()), { what: `${server.kind} to refuse` });
    }
    const reading = await fed(othersThat("reads", kind));
    await fillAllTypes(primary, { keys: 300, databases: [3, 12], seed: 12 });
    await primary.send("EVAL", "return redis.call('SET', KEYS[1], 'x')", 1, "by-script");
    expect(await primary.send("WAIT", 1, 20_000)).toBe(1);
    const digest = await primary.digest();
    for (const server of reading) {
      await caughtUp(primary, server);
      expect([server.kind, await server.digest()]).toEqual([server.kind, digest]);
    }
    for (const server of refusing) {
      expect([server.kind, await server.keysPerDatabase()]).toEqual([server.kind, {}]);
    }
    expect((await primary.info("stats"))["sync_full"]).toBe("1");
    expect((await replica.stop()).exitCode).toBe(0);
    expect(replica.stderr).not.toMatch(/ (warn|error) /);

    for (const layout of ["multipart", "single"]) {
      for (const { kind: other } of reading) {
        const { exitCode, stdout, stderr } = await checkWith(other, dir, layout, [
          "--for",
          targetOf(other),
        ]);
        expect([other, layout, exitCode, stderr]).toEqual([other, layout, 0, ""]);
        expect(JSON.parse(stdout).check.digest).toBe(digest);
      }
      for (const { kind: other } of refusing) {
        const { exitCode, stderr } = await checkWith(other, dir, layout);
        expect([other, layout, exitCode]).toEqual([other, layout, 3]);
        expect(stderr).toMatch(
          /can't read the snapshot's format .* give a newer one with --server/,
        );
        const target = ["--for", targetOf(other)];
        const refused = await checkWith(other, dir, layout, target);
        expect([other, layout, refused.exitCode, refused.stdout]).toEqual([other, layout, 2, ""]);
        expect(refused.stderr).toMatch(/can't load the snapshot, which is an RDB of .* can(;|$)/m);
        expect(readdirSync(dir.path).filter((name) => name.endsWith(target.join("-")))).toEqual([]);
      }
    }
  });
});
