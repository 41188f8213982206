import { afterAll, expect, test } from "bun:test";
import type { Info } from "../../src/cli/status/info-connection.ts";
import { parseInfo } from "../../src/resp/info-text.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { fillAllTypes } from "../support/fill.ts";
import { follow } from "../support/following.ts";
import { RespClient } from "../support/resp-client.ts";
import { availableServers, startServer } from "../support/servers.ts";
import { outermost } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const proxy = startFaultProxy();
afterAll(async () => proxy[Symbol.asyncDispose]());

/** Amid the snapshot. */
const AMID_BYTES = 40_000;

test.each(outermost(availableServers()))(
  "%s: a diskless transfer is estimated by the primary's figures",
  async (kind) => {
    await using server = await startServer(kind, { args: ["--repl-diskless-sync", "yes"] });
    await fillAllTypes(server, { keys: 2_000, seed: 3 });
    await using route = await proxy.route(server.port);
    await route.plan([
      [{ direction: "to-replica", afterBytes: AMID_BYTES, effect: { kind: "black-hole" } }],
    ]);
    using dir = tempDir("estimate");
    const url = `redis://127.0.0.1:${route.port}`;
    await using replica = follow(url, realDisk, dir, { "sync-links": "1" });
    await using client = await RespClient.connect({ port: replica.port });
    const infoWhere = async (what: string, holds: (info: Info) => boolean) =>
      await until(
        async () => {
          const info = parseInfo(String(await client.send("INFO", "replica")));
          return holds(info) ? info : undefined;
        },
        { what },
      );
    const coming = await infoWhere(
      "an estimate",
      (info) => Number(info.get("sync_expected_bytes")) > 0,
    );
    expect(coming.get("state")).toBe("transfer");
    expect(coming.get("sync_preparing_seconds")).toBe("-1");
    const dataset = Number((await server.info("memory"))["used_memory_dataset"]);
    // What the server has in memory for its clients comes and goes.
    expect(Number(coming.get("sync_expected_bytes")) / dataset).toBeWithin(0.2, 5);
  },
  150_000,
);
