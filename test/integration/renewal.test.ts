import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { thrownBy } from "../support/error-of.ts";
import { SeededLoad } from "../faults/seeded-load.ts";
import { fillAllTypes } from "../support/fill.ts";
import { currentFiles } from "../support/generation-files.ts";
import { startReplica } from "../support/replica-process.ts";
import { availableServers, bootCopy, startServer } from "../support/servers.ts";
import { outermost } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { RespClient } from "../support/resp-client.ts";

const SEED = 7;

function infoOf(reply: unknown): Map<string, string> {
  const lines = String(reply).split("\r\n");
  return new Map(
    lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]),
  );
}

async function lastGeneration(client: RespClient): Promise<number> {
  return Number(infoOf(await client.send("INFO", "replica")).get("generation"));
}

describe.each(outermost(availableServers()))("%s", (kind) => {
  test.each(["yes", "no"])(
    "new generations under load (diskless: %s) lose nothing and don't break the link",
    async (diskless) => {
      using dir = tempDir("renewal");
      await using primary = await startServer(kind, { args: ["--repl-diskless-sync", diskless] });
      await fillAllTypes(primary, { keys: 2_000, seed: SEED });
      await using load = await SeededLoad.start(primary, SEED);
      const argv = ["follow", primary.url(), "--dir", dir.file("data"), "--port", "0"];
      argv.push("--keep-for", "off");
      await using replica = startReplica(argv);
      const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
      await replica.waitForLine(/connected by full resync/);
      await using client = await RespClient.connect({ port: Number(port) });
      expect(await client.send("BGSAVE")).toBe("Background saving started");
      expect(await thrownBy(client.send("BGSAVE"))).toThrow("already in progress");
      await replica.waitForLine(/generation 2 replaces generation 1/);
      replica.signal("SIGUSR1");
      await replica.waitForLine(/asked for by SIGUSR1/);
      await replica.waitForLine(/generation 3 replaces generation 2/);
      expect(await lastGeneration(client)).toBe(3);
      // Without --keep-for, the default keeps two sealed generations.
      await client.send("BGSAVE");
      await replica.waitForLine(/generation 4 replaces generation 3/);
      await replica.waitForLine(/removed generation 1 \(--keep 2\)/);
      expect(readdirSync(dir.file("data", "generations")).toSorted()).toEqual(
        ["2", "3", "4"].map((id) => id.padStart(10, "0")),
      );
      const written = load.commands;
      await until(() => load.commands > written + 500, { what: "the load to go on" });
      await load.stop();
      await primary.acknowledgedBy(1);
      const digest = await primary.digest();
      const stats = await primary.info("stats");
      // Four snapshots over one unbroken link.
      expect([stats["sync_full"], stats["sync_partial_ok"]]).toEqual(["4", "0"]);
      expect((await replica.stop()).exitCode).toBe(0);
      await using copy = await bootCopy(kind, dir.file("data", "current"));
      expect(await copy.digest()).toBe(digest);
      await using again = startReplica(argv);
      await again.waitForLine(/connected by partial resync/);
    },
  );
});

test("--snapshot-every and --snapshot-ratio ask for new generations", async () => {
  using dir = tempDir("renewal");
  await using primary = await startServer("redis-7.0");
  const argv = ["follow", primary.url(), "--port", "0"];
  {
    await using replica = startReplica([
      ...argv,
      "--dir",
      dir.file("every"),
      "--snapshot-every",
      "1s",
    ]);
    await replica.waitForLine(/asked for by --snapshot-every/);
    await replica.waitForLine(/generation 3 replaces generation 2/);
    await replica.stop();
  }
  await using replica = startReplica([
    ...argv,
    "--dir",
    dir.file("ratio"),
    "--snapshot-ratio",
    "2.5",
  ]);
  await replica.waitForLine(/connected by full resync/);
  await primary.cli("set", "key", "x".repeat(100_000));
  await replica.waitForLine(/asked for by --snapshot-ratio/);
  await replica.waitForLine(/generation 2 replaces generation 1/);
  // The value is in the new snapshot, not in the new log.
  expect(Bun.file(currentFiles(dir.file("ratio")).log).size).toBeLessThan(1_000);
});
