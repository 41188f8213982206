import { describe, expect, test } from "bun:test";
import { appendFileSync, readFileSync } from "node:fs";
import { ReplicaError } from "../../src/base/errors.ts";
import { RESTORED } from "../../src/store/restore/restore.ts";
import { findServer } from "../../src/stock/server-program.ts";
import {
  checkRestoredCluster,
  refuseServing,
  type RestoredShard,
  serveRestoredCluster,
} from "../../src/stock/stock-cluster.ts";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { keySlot, SLOTS } from "../support/key-slot.ts";
import { freePort } from "../support/ports.ts";
import { rejectionOf } from "../support/error-of.ts";
import { RespClient } from "../support/resp-client.ts";
import { runProgram } from "../support/run-program.ts";
import { encodeCommand, ReplyError } from "../support/resp.ts";
import { availableServers, type ServerKind, startServer, tool } from "../support/servers.ts";
import { fingerprint, layRestored, processesIn, serverScript } from "../support/stock.ts";
import { outermost } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";

const never = new AbortController().signal;
const KEYS = 300;

/** A restored folder for each shard of a real cluster, with a transaction and a key that has expired in its log. */
async function restoredShards(dir: TempDir, cluster: RealCluster): Promise<RestoredShard[]> {
  for (let n = 0; n < KEYS; n++) await cluster.send("SET", `key:${n}`, `value:${n}`);
  const view = await cluster.view();
  return await Promise.all(
    cluster.nodes.map(async (node, index) => {
      await node.send("SAVE");
      const { slots } = view.find(({ port }) => port === node.port)!;
      const own = (begin: string) => {
        for (let n = 0; ; n++) {
          const slot = keySlot(`${begin}:${n}`);
          if (slots.some(([first, last]) => first <= slot && slot <= last)) return `${begin}:${n}`;
        }
      };
      const log = [
        ["SELECT", "0"],
        ["MULTI"],
        ["SET", own("in-transaction"), "1"],
        ["EXEC"],
        ["SET", own("expired"), "1", "PXAT", "1000000000000"],
      ].map((words) => encodeCommand(words));
      const base = readFileSync(`${node.dir}/dump.rdb`);
      const files = layRestored(dir.file(String(index)), "multipart", {
        base,
        log: Buffer.concat(log),
      });
      return { files, slots };
    }),
  );
}

async function withShards(
  kind: ServerKind,
  run: (shards: RestoredShard[], dir: TempDir) => Promise<void>,
): Promise<void> {
  using dir = tempDir("stock-cluster");
  const shards = await (async () => {
    await using cluster = await startCluster(kind, { replicas: 0 });
    return await restoredShards(dir, cluster);
  })();
  await run(shards, dir);
}

describe.each(outermost(availableServers()))("%s", (kind) => {
  test("a cluster is checked: every key is counted, expired ones too, and the files stay", async () => {
    await withShards(kind, async (shards, dir) => {
      const server = await findServer(serverScript(dir, kind));
      const before = fingerprint(shards[0]!.files.dir);
      const nodes = await checkRestoredCluster(shards, server, { digest: true, signal: never });
      expect(nodes.reduce((sum, { keys }) => sum + keys, 0)).toBe(KEYS + 2 * shards.length);
      expect(nodes.map(({ strayKeys, expires }) => ({ strayKeys, expires }))).toEqual(
        shards.map(() => ({ strayKeys: 0, expires: 1 })),
      );
      expect(new Set(nodes.map(({ digest }) => digest)).size).toBe(3);
      expect(fingerprint(shards[0]!.files.dir)).toEqual(before);
      expect(processesIn(dir.path)).toEqual([]);
    });
  });

  test("a cluster is served: clients find every key and can't write; one that dies ends all", async () => {
    await withShards(kind, async (shards, dir) => {
      const server = await findServer(serverScript(dir, kind));
      using stopping = new DisposableStop();
      const served = await serveRestoredCluster(shards, server, {
        port: 0,
        signal: stopping.signal,
      });
      const port = served.ports[0]!;
      const cli = async (...words: string[]) => {
        const argv = [...tool(kind, "redis-cli"), ...words];
        return (await runProgram(argv)).stdout;
      };
      const found = await cli("-c", "-p", String(port), "get", "key:7");
      expect(found.trim()).toBe("value:7");
      expect(await cli("--cluster", "check", `127.0.0.1:${port}`)).toContain(
        "[OK] All 16384 slots covered.",
      );
      const client = await RespClient.connect({ host: "127.0.0.1", port: served.ports[0]! });
      const replies = await client.exchange([
        ["SET", "key:7", "other"],
        ["EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "key:7"],
        ["CLUSTER", "RESET"],
        ["SHUTDOWN"],
        ["DBSIZE"],
      ]);
      expect(replies.slice(0, 4).every((reply) => reply instanceof ReplyError)).toBe(true);
      expect(String(replies[0])).toMatch(/NOPERM/);
      expect(Number(replies[4])).toBeGreaterThan(0);
      const pid = Number(/process_id:(\d+)/.exec(String(await client.send("INFO", "server")))?.[1]);
      process.kill(pid, "SIGKILL");
      const error = await served.ended.catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(ReplicaError);
      expect(String(error)).toMatch(/killed or ran out of memory/);
      const other = { host: "127.0.0.1", port: served.ports[1]! };
      expect(await RespClient.connect(other).catch(() => "refused")).toBe("refused");
      client.close();
    });
  });
});

test.each(availableServers().filter((kind) => kind === "redis-8.0" || kind === "valkey-8.1"))(
  "data of more than one database is refused, since the cluster has only one: %s",
  async (kind) => {
    using dir = tempDir("stock-cluster");
    const base = await (async () => {
      await using server = await startServer(kind, {});
      await server.send("SAVE");
      return readFileSync(`${server.dir}/dump.rdb`);
    })();
    const log = Buffer.concat(
      [
        ["SELECT", "1"],
        ["SET", "a", "1"],
      ].map((words) => encodeCommand(words)),
    );
    const files = layRestored(dir.file("0"), "multipart", { base, log });
    const server = await findServer(serverScript(dir, kind));
    const shards = [{ files, slots: [[0, SLOTS - 1] as const] }];
    const checking = checkRestoredCluster(shards, server, { digest: false, signal: never });
    const error = await checking.catch((caught: unknown) => caught);
    expect(String(error)).toContain("has database 0 alone in a cluster, and the data has more");
    expect(processesIn(dir.path)).toEqual([]);
  },
);

test.each(outermost(availableServers()))(
  "%s: a node that passed over a command is refused, and went on after",
  async (kind) => {
    await withShards(kind, async (shards, dir) => {
      const server = await findServer(serverScript(dir, kind));
      const { files } = shards[1]!;
      const log = `${files.dir}/appendonlydir/${RESTORED.log}`;
      // Of a newer primary: an option that the server doesn't know.
      appendFileSync(log, encodeCommand(["XGROUP", "CREATE", "a", "group", "0", "NEWER"]));
      const said = /passed over a command while it loaded, .* \(XGROUP\|CREATE\); give a server/;
      const refusal = { code: "RESTORE_UNUSABLE", message: expect.stringMatching(said) };
      using stopping = new DisposableStop();
      const options = { digest: false, port: 0, signal: stopping.signal };
      const checked = await rejectionOf(() => checkRestoredCluster(shards, server, options));
      expect(checked).toMatchObject(refusal);
      const served = await rejectionOf(() => serveRestoredCluster(shards, server, options));
      expect(served).toMatchObject(refusal);
      expect(processesIn(dir.path)).toEqual([]);
    });
  },
  150_000,
);

describe("ports to serve at are tried before any work", () => {
  const program = { product: "Redis", version: "7.0.15", major: 7, minor: 0, argv: [] } as const;
  /** The first of three ports that are free, also for the bus. */
  function firstOfFree(): number {
    for (;;) {
      const port = freePort();
      try {
        refuseServing(3, program, port);
        return port;
      } catch {
        // One of the six is taken.
      }
    }
  }

  test.each([
    ["the port of the first", 0],
    ["the port of the last", 2],
    ["the bus of the first", 10_000],
    ["the bus of the last", 10_002],
  ])("%s is named where it is taken", (_what, more) => {
    const port = firstOfFree();
    const listener = Bun.listen({
      hostname: "127.0.0.1",
      port: port + more,
      socket: { data: () => undefined },
    });
    try {
      expect(() => refuseServing(3, program, port)).toThrow(
        `can't listen on 127.0.0.1:${port + more}: the port is in use; choose another --serve, or 0`,
      );
    } finally {
      listener.stop(true);
    }
    refuseServing(3, program, port);
  });
});

/** Stops what is left over when a test fails. */
class DisposableStop {
  readonly #controller = new AbortController();
  readonly signal = this.#controller.signal;
  [Symbol.dispose](): void {
    this.#controller.abort(new ReplicaError("STOPPED", { message: "stopped" }));
  }
}
