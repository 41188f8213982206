import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileNames } from "../../src/store/generation/layout.ts";
import { generationFiles } from "../support/generation-files.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { availableServers, bootCopy, bootCopyOfDir, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** Names a generation's files as earlier versions did: every generation's had the number 1. */
function nameAsBefore(data: string, id: number): void {
  const { base, log, manifest } = generationFiles(data, id);
  const before = fileNames(1);
  fs.renameSync(base, join(dirname(base), before.base));
  fs.renameSync(log, join(dirname(log), before.log));
  fs.writeFileSync(manifest, before.manifestText);
}

function namesIn(data: string, id: number): string[] {
  return fs.readdirSync(dirname(generationFiles(data, id).base)).toSorted();
}

test("a directory with the names of earlier versions is verified, resumed, renewed and restored as it is", async () => {
  using dir = tempDir("earlier");
  const data = dir.file("data");
  await using primary = await startServer("redis-7.0");
  const argv = ["follow", primary.url(), "--dir", data, "--port", "0", "--keep", "9"];
  const write = async (key: string) => {
    await primary.send("SET", key, "value");
    await primary.acknowledgedBy(1);
  };
  {
    await using replica = startReplica(argv);
    await replica.waitForLine(/connected by full resync/);
    await write("first");
    replica.signal("SIGUSR1");
    await replica.waitForLine(/generation 2 replaces generation 1/);
    await write("second");
    await replica.stop();
  }
  nameAsBefore(data, 2);
  const [before, numbered] = [fileNames(1), fileNames(3)];
  const sound = { exitCode: 0, stdout: expect.stringContaining("no damage found") };
  expect(await runReplica(["verify", data])).toMatchObject(sound);
  {
    await using replica = startReplica(argv);
    await replica.waitForLine(/connected by partial resync/);
    await write("third");
    // It goes on where it is, under the names that it has.
    expect(namesIn(data, 2)).toEqual([before.base, before.log, "appendonly.aof.manifest"]);
    await using copy = await bootCopy("redis-7.0", join(data, "current"));
    expect(await copy.digest()).toBe(await primary.digest());
    replica.signal("SIGUSR1");
    await replica.waitForLine(/generation 3 replaces generation 2/);
    await write("fourth");
    await replica.stop();
  }
  expect(namesIn(data, 3)).toEqual([numbered.base, numbered.log, "appendonly.aof.manifest"]);
  expect(await runReplica(["verify", data])).toMatchObject(sound);
  const listed = await runReplica(["snapshots", data, "--json"]);
  const sizes = JSON.parse(listed.stdout).generations.map(
    (one: { log_bytes: number }) => one.log_bytes,
  );
  expect(sizes).toEqual([1, 2, 3].map((id) => fs.statSync(generationFiles(data, id).log).size));
  const keysOf = async (...from: string[]) => {
    const target = dir.file(`target-${fs.readdirSync(dir.path).length}`);
    expect(await runReplica(["restore", data, target, ...from])).toMatchObject({ exitCode: 0 });
    await using server = await bootCopyOfDir(availableServers().at(-1)!, target, {
      args: ["--appendonly", "yes"],
    });
    return await server.send("DBSIZE");
  };
  expect(await keysOf("--generation", "2")).toBe(3);
  expect(await keysOf()).toBe(4);
  {
    // Its snapshot and its log feed other servers, too.
    const offline = ["--offline", "--dir", data, "--port", "0", "--generation", "2"];
    await using replica = startReplica(offline);
    const [, port = ""] = await replica.waitForLine(/at 127\.0\.0\.1:(\d+)/);
    await using downstream = await startServer("redis-7.0");
    await downstream.send("REPLICAOF", "127.0.0.1", port);
    await until(async () => (await downstream.send("DBSIZE")) === 3, { what: "its keys" });
    await replica.stop();
  }
  // Without the database the files alone tell which is which.
  for (const name of fs.readdirSync(data)) {
    if (basename(name).startsWith("replica.db")) fs.rmSync(join(data, name));
  }
  expect(await keysOf("--generation", "2")).toBe(3);
  expect(await keysOf()).toBe(4);
});
