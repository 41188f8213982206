import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { freePort } from "../support/ports.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { serverScript } from "../support/stock.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const KIND = "redis-8.0";
const KEYS = 60;

interface Shown {
  readonly slots: number;
  readonly notes: readonly string[];
  readonly shards: readonly { readonly keys: number }[];
}

describe("an archive that two processes share", () => {
  let cluster: RealCluster;
  let dir: TempDir;
  let url: string;
  let targets = 0;
  /** The shard whose snapshot was taken last. */
  let last: string;

  beforeAll(async () => {
    dir = tempDir("cluster-archive-shared");
    const args = ["--repl-diskless-sync-delay", "0"];
    cluster = await startCluster(KIND, { replicas: 0, args });
    for (let n = 0; n < KEYS; n++) await cluster.send("SET", `key:${n}`, n);
    url = `file://${dir.file("archive")}`;
    const follow = (name: string, shards: string) =>
      startReplica([
        "follow",
        cluster.url(),
        "--dir",
        dir.file(name),
        "--port",
        String(freePort()),
        "--shards",
        shards,
        "--archive",
        url,
        "--archive-every",
        "1s",
      ]);
    await using one = follow("one", "0-1");
    const names = (folder: string) =>
      fs.existsSync(dir.file("archive", folder)) ? fs.readdirSync(dir.file("archive", folder)) : [];
    const isWhole = (name: string) =>
      names(`shards/${name}/generations`).some((generation) =>
        names(`shards/${name}/generations/${generation}`).includes("base.json"),
      );
    const untilWhole = async (count: number) =>
      await until(() => names("shards").length === count && names("shards").every(isWhole), {
        what: `${count} snapshots in the archive`,
      });
    await untilWhole(2);
    const first = names("shards");
    // So the moments of that shard begin when those of the others have begun.
    await using two = follow("two", "2-");
    await untilWhole(3);
    last = names("shards").find((name) => !first.includes(name))!;
    await until(() => names("layouts").length === 2, { what: "the layouts of both" });
    // The newest moment lies behind the first layouts of both.
    await Bun.sleep(2_500);
    for (let n = 0; n < KEYS; n++) await cluster.send("SET", `key:${n}`, n + 1);
    for (const node of await cluster.primaries()) await node.acknowledgedBy(1);
    await Bun.sleep(2_100);
    await one.stop();
    await two.stop();
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
    dir.remove();
  });

  const restore = async (...more: string[]) =>
    await runReplica(["restore", url, dir.file(`target-${targets++}`), ...more]);

  test("restores all shards as one cluster, and says whose they are", async () => {
    const how = ["--check", "--server", serverScript(dir, KIND), "--json"];
    const { exitCode, stdout, stderr } = await restore(...how);
    expect([exitCode, stderr]).toEqual([0, stderr]);
    const { slots, notes, shards } = JSON.parse(stdout) as Shown;
    expect(slots).toBe(16_384);
    expect(notes.filter((note) => note.includes("belonged to no shard"))).toEqual([]);
    expect(shards.reduce((sum, { keys }) => sum + keys, 0)).toBe(KEYS);
    expect(stderr).toMatch(/the layouts of 2 directories; slots are taken of 0001-.* and 0001-/);
  });

  test("a target in the archive's own folder is refused", async () => {
    const target = dir.file("archive", "restored");
    const { exitCode, stderr } = await runReplica(["restore", url, target]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("lies in the archive");
    expect(fs.existsSync(target)).toBe(false);
  });

  test("a shard whose archive is lost is named", async () => {
    const [name = ""] = fs.readdirSync(dir.file("archive", "shards"));
    const copy = await copied(`shards/${name}`);
    fs.rmSync(dir.file(copy, "shards", name), { recursive: true });
    const { exitCode, stderr } = await runReplica([
      "restore",
      `file://${dir.file(copy)}`,
      dir.file(`target-${targets++}`),
    ]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`shard ${name}: `);
    expect(stderr).not.toContain("keeps no moment");
  });

  test("a shard whose archive is behind is told, and the moment is its end", async () => {
    const copy = await copied("log");
    const generations = dir.file(copy, "shards", last, "generations");
    const log = `${generations}/${fs.readdirSync(generations)[0]}/log`;
    for (const segment of fs.readdirSync(log)) fs.rmSync(`${log}/${segment}`);
    const { exitCode, stderr } = await runReplica([
      "restore",
      `file://${dir.file(copy)}`,
      dir.file(`target-${targets++}`),
    ]);
    expect([exitCode, stderr]).toEqual([0, stderr]);
    expect(stderr).toMatch(
      new RegExp(`the archive of shard ${last} ends \\d+ s before the newest`),
    );
  });

  test("verify tells of layouts that are damaged, and of none", async () => {
    const copy = await copied("layouts");
    const [first = ""] = fs.readdirSync(dir.file(copy, "layouts"));
    const [document = ""] = fs.readdirSync(dir.file(copy, "layouts", first));
    const verify = async (...more: string[]) =>
      await runReplica(["verify", `file://${dir.file(copy)}`, ...more]);
    expect((await verify()).exitCode).toBe(0);
    fs.truncateSync(dir.file(copy, "layouts", first, document), 30);
    const damaged = await verify();
    expect(damaged.exitCode).toBe(3);
    expect(damaged.stdout).toMatch(/^damaged: .*layouts\/0001-.*moments of that time/m);
    const { ok, damages } = JSON.parse((await verify("--json")).stdout) as {
      ok: boolean;
      damages: object[];
    };
    expect([ok, damages.length]).toEqual([false, 1]);
    fs.rmSync(dir.file(copy, "layouts"), { recursive: true });
    const none = await verify();
    expect(none.exitCode).toBe(0);
    expect(none.stdout).toContain("note: there is no layout");
  });

  test("without cluster.json it is told what is missing", async () => {
    const copy = await copied("cluster.json");
    fs.rmSync(dir.file(copy, "cluster.json"));
    const { exitCode, stderr } = await runReplica(["verify", `file://${dir.file(copy)}`]);
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/cluster\.json is missing, though layouts and shards/);
  });

  test("a replica whose archive is of the other kind doesn't start", async () => {
    const follow = async (source: string, archive: string) =>
      await runReplica([
        "follow",
        source,
        "--dir",
        dir.file(`other-${targets++}`),
        "--port",
        String(freePort()),
        "--archive",
        archive,
      ]);
    const [node] = await cluster.primaries();
    const primary = await follow(node!.url(), url);
    expect([primary.exitCode, primary.stderr]).toEqual([2, primary.stderr]);
    expect(primary.stderr).toContain("is an archive of a cluster, and this is one primary");
    const single = dir.file("single");
    fs.mkdirSync(single);
    const [name = ""] = fs.readdirSync(dir.file("archive", "shards"));
    fs.copyFileSync(dir.file("archive", "shards", name, "archive.json"), `${single}/archive.json`);
    const whole = await follow(cluster.url(), `file://${single}`);
    expect([whole.exitCode, whole.stderr]).toEqual([2, whole.stderr]);
    expect(whole.stderr).toContain("is an archive of one primary, and this is a cluster");
  });

  async function copied(what: string): Promise<string> {
    const copy = `copy-of-${what.replaceAll("/", "-")}`;
    await fs.promises.cp(dir.file("archive"), dir.file(copy), { recursive: true });
    return copy;
  }
});
