import { expect, test } from "bun:test";
import { parseExposition } from "../support/exposition.ts";
import { freePort } from "../support/ports.ts";
import { startReplica } from "../support/replica-process.ts";
import { startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

test("a killed primary is one break, and a line when it goes and when it is back", async () => {
  using dir = tempDir("outage");
  await using server = await startServer("valkey-8.1");
  await server.send("SET", "key", "value");
  const http = freePort();
  const flags = ["--http", `127.0.0.1:${http}`, "--retry-max", "100ms", "--port", "0"];
  await using replica = startReplica(["follow", server.url(), "--dir", dir.file("data"), ...flags]);
  await replica.waitForLine(/connected by full resync/);
  /** The sum of a metric's series, or the only one. */
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${http}/metrics`)).text();
    const samples = parseExposition(text).flatMap((family) => family.samples);
    const found = samples.filter((one) => one.name === `replica_${name}`);
    return found.reduce((sum, { value }) => sum + value, 0);
  };
  expect(await metric("link_down_seconds")).toBe(0);
  expect(Date.now() / 1000 - (await metric("newest_restorable_timestamp_seconds"))).toBeLessThan(
    20,
  );

  await server.kill9();
  await until(async () => (await metric("attempts_failed_total")) >= 20, { what: "20 attempts" });
  const newest = await metric("newest_restorable_timestamp_seconds");
  expect(await metric("breaks_total")).toBe(1);
  await until(async () => (await metric("link_silent_seconds")) > 3, { what: "3 s of silence" });
  expect(await metric("link_down_seconds")).toBeGreaterThanOrEqual(2);
  expect(await metric("newest_restorable_timestamp_seconds")).toBe(newest);
  const { stderr } = replica;
  // The break, and that nothing answers any more; not each of the attempts.
  expect(stderr.match(/next attempt in/g)!.length).toBeLessThanOrEqual(2);
  expect(stderr).toMatch(/ warn {2}the primary (closed|reset) .*; next attempt in \d+ ms code=/);

  await server.restart();
  await replica.waitForLine(
    / info {2}link up after \d+\.\d s without one: \d+ failed attempts, then a full resync/,
  );
  await until(async () => (await metric("link_down_seconds")) === 0, { what: "a link" });
  expect(await metric("newest_restorable_timestamp_seconds")).toBeGreaterThan(newest);
  expect(await metric("breaks_total")).toBe(1);
  expect((await replica.stop()).exitCode).toBe(0);
});
