import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { startCluster } from "../support/cluster.ts";
import { keySlot } from "../support/key-slot.ts";
import { freePort } from "../support/ports.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { serverScript } from "../support/stock.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const KIND = "redis-8.0";
const KEYS = 50;

interface Shown {
  readonly shards: readonly { readonly keys: number; readonly stray_keys: number }[];
}

test("a slot that was moved just before a snapshot is whole from an archive, at any moment around", async () => {
  using dir = tempDir("cluster-archive-moved");
  const args = ["--repl-diskless-sync-delay", "0"];
  await using cluster = await startCluster(KIND, { replicas: 0, args });
  const slot = keySlot("{tag}");
  for (let n = 0; n < KEYS; n++) await cluster.send("SET", `{tag}:${n}`, n);
  const from = await cluster.ownerOf(slot);
  const to = (await cluster.primaries()).find((node) => node !== from)!;
  const archive = dir.file("archive");
  const port = freePort();
  const where = ["--dir", dir.file("data"), "--port", String(port)];
  const how = ["--archive", `file://${archive}`, "--archive-every", "1s", "--keep", "0"];
  const replica = startReplica(["follow", cluster.url(), ...where, ...how]);
  const generations = () =>
    fs.existsSync(`${archive}/shards`)
      ? fs
          .readdirSync(`${archive}/shards`)
          .map((name) => [`${archive}/shards/${name}/generations`])
          .map(([path = ""]) =>
            fs.existsSync(path) ? fs.readdirSync(path).map((one) => `${path}/${one}`) : [],
          )
      : [];
  const whole = () =>
    generations().map((of) => of.filter((one) => fs.existsSync(`${one}/base.json`)).length);
  await until(() => whole().length === 3 && whole().every((count) => count === 1), {
    what: "the first snapshots in the archive",
  });
  // Each write has a mark near it, so that moments are told exactly.
  let isBusy = true;
  const busy = (async () => {
    for (let n = 0; isBusy; n++) {
      await Promise.all(
        ["a", "b", "c"].map(async (tag) => await cluster.send("SET", `{${tag}}`, n)),
      );
      await Bun.sleep(50);
    }
  })();
  // As far as a migration that no look sees may reach.
  await Bun.sleep(6_000);
  await cluster.migrateSlot(slot, from, to);
  const movedMs = Date.now();
  await using client = await RespClient.connect({ port });
  await client.send("BGSAVE");
  await until(() => whole().every((count) => count === 2), { what: "the second snapshots" });
  await Bun.sleep(movedMs + 7_000 - Date.now());
  isBusy = false;
  await busy;
  await replica.stop();
  const server = serverScript(dir, KIND);
  for (const afterMs of [500, 1_500, 2_500, 4_000]) {
    const at = new Date(movedMs + afterMs).toISOString();
    const target = dir.file(`target-${afterMs}`);
    const more = ["--at", at, "--check", "--server", server, "--json"];
    const { exitCode, stdout, stderr } = await runReplica([
      "restore",
      `file://${archive}`,
      target,
      ...more,
    ]);
    expect([exitCode, stderr]).toEqual([0, stderr]);
    const { shards } = JSON.parse(stdout) as Shown;
    expect(shards.reduce((sum, { keys }) => sum + keys, 0)).toBe(KEYS + 3);
    expect(shards.map(({ stray_keys }) => stray_keys)).toEqual([0, 0, 0]);
  }
}, 180_000);
