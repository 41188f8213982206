import { expect, test } from "bun:test";
import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { type RealServer, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const ENDED = /data was moved or removed while it was in use: .* start again with the --dir/;

async function followed(primary: RealServer, data: string) {
  const replica = startReplica(["follow", primary.url(), "--dir", data, "--port", "0"]);
  await replica.waitForLine(/connected by full resync/);
  return replica;
}

test("ends if its folder is moved away, and leaves the one in its place alone", async () => {
  using dir = tempDir("moved");
  const [data, old] = [dir.file("data"), dir.file("old")];
  await using primary = await startServer("redis-7.0");
  await primary.send("SET", "before", "1");
  await using first = await followed(primary, data);
  renameSync(data, old);
  await using second = await followed(primary, data);
  // It is about to make a generation and to remove one: neither may touch the other's folder.
  first.signal("SIGUSR1");
  await primary.send("SET", "after", "1");
  const { exitCode } = await first.ended();
  expect(exitCode).toBe(1);
  expect(first.stderr).toMatch(ENDED);
  const offset = await primary.offset();
  await until(async () => Number((await primary.info("replication"))["connected_slaves"]) === 1, {
    what: "only the second to be attached",
  });
  // Now it has written what the first one hasn't.
  expect(await primary.send("WAIT", 1, 30_000)).toBe(1);
  expect((await second.stop()).exitCode).toBe(0);
  for (const path of [data, old]) {
    const { exitCode, stdout } = await runReplica(["verify", path, "--json"]);
    const { generations } = JSON.parse(stdout) as { generations: { id: number }[] };
    expect([path, exitCode, generations.map(({ id }) => id)]).toEqual([path, 0, [1]]);
  }
  const restored = await runReplica(["restore", data, dir.file("restored"), "--json"]);
  expect((JSON.parse(restored.stdout) as { offset: number }).offset).toBeGreaterThanOrEqual(offset);
});

test("ends if its folder is removed, without another fork of the primary", async () => {
  using dir = tempDir("removed");
  const data = dir.file("data");
  await using primary = await startServer("redis-7.0");
  await using replica = await followed(primary, data);
  const forks = (await primary.info("stats"))["total_forks"];
  rmSync(data, { recursive: true });
  await primary.send("SET", "after", "1");
  expect((await replica.ended()).exitCode).toBe(1);
  expect(replica.stderr).toMatch(ENDED);
  expect((await primary.info("stats"))["total_forks"]).toBe(forks!);
  expect(existsSync(data)).toBe(false);
});

test("ends if its log is removed or replaced, and names the file", async () => {
  for (const inItsPlace of [false, true]) {
    using dir = tempDir("removed");
    const data = dir.file("data");
    await using primary = await startServer("redis-7.0");
    await using replica = await followed(primary, data);
    const log = dir.file("data", "current", "appendonly.aof.1.incr.aof");
    rmSync(log);
    if (inItsPlace) writeFileSync(log, "*1\r\n$4\r\nPING\r\n");
    await primary.send("SET", "after", "1");
    expect((await replica.ended()).exitCode).toBe(1);
    expect(replica.stderr).toMatch(/incr\.aof was moved or removed while it was in use: .* --dir/);
    expect(replica.stderr).not.toContain("durable up to");
  }
});
