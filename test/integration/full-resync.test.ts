import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { startReplica } from "../support/replica-process.ts";
import { bootCopy, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { smallRdb } from "./bad-input-rig.ts";

function rows(dir: string, sql: string): Record<string, unknown>[] {
  const db = new Database(join(dir, "replica.db"), { readonly: true });
  try {
    return db.query<Record<string, unknown>, []>(sql).all();
  } finally {
    db.close();
  }
}

test("a gap beyond the backlog: reports the repl-backlog-size that would have avoided the full resync", async () => {
  await using server = await startServer("redis-7.0", { args: ["--repl-backlog-size", "16kb"] });
  using dir = tempDir("gap");
  const data = dir.file("data");
  const args = ["follow", server.url(), "--dir", data, "--port", "0"];
  {
    await using replica = startReplica(args);
    await replica.waitForLine(/connected by full resync/);
    expect((await replica.stop()).exitCode).toBe(0);
  }
  const before = await server.offset();
  await server.cli("set", "large", "x".repeat(100_000));
  const gapBytes = (await server.offset()) - before;
  await using replica = startReplica(args);
  const told = await replica.waitForLine(
    /full resync at offset (\d+): the primary's backlog no longer holds offset (\d+): the gap is (\d+) bytes, set repl-backlog-size to at least 128\.0 KiB/,
  );
  // The primary may have added a PING before the link was closed.
  expect(Number(told[3])).toBeGreaterThanOrEqual(gapBytes);
  expect(Number(told[1]) - Number(told[2]) + 1).toBe(Number(told[3]));
  await replica.waitForLine(/connected by full resync/);
  expect((await replica.stop()).exitCode).toBe(0);
  expect(rows(data, "SELECT id, state FROM generations ORDER BY id")).toEqual([
    { id: 1, state: "sealed" },
    { id: 2, state: "current" },
  ]);
  const [sealed] = rows(data, "SELECT sealed_reason FROM generations WHERE id = 1");
  expect(sealed?.["sealed_reason"]).toMatch(/backlog no longer holds/);
  const events = rows(data, "SELECT detail FROM events WHERE kind = 'full-resync'");
  expect(events.at(-1)?.["detail"]).toMatch(/repl-backlog-size to at least 128\.0 KiB/);
  for (const [generation, keys] of [
    ["generations/0000000001", {}],
    ["current", { 0: 1 }],
  ] as const) {
    await using copy = await bootCopy("redis-7.0", join(data, generation));
    expect(await copy.keysPerDatabase()).toEqual(keys);
  }
});

test("another history: the log line of the full resync names both", async () => {
  await using server = await startServer("redis-7.0");
  using dir = tempDir("history");
  const args = ["follow", server.url(), "--dir", dir.file("data"), "--port", "0"];
  {
    await using replica = startReplica(args);
    await replica.waitForLine(/connected by full resync/);
    await replica.stop();
  }
  await server.restart();
  await using replica = startReplica(args);
  await replica.waitForLine(
    /full resync at offset \d+: the primary's history \([0-9a-f]{40}\) differs from the one kept up to offset \d+ \([0-9a-f]{40}\)/,
  );
});

test("payloads that break repeatedly: reports the figures and the count, and pauses longer", async () => {
  const rdb = smallRdb("v", 4096);
  const breaking = [
    { handshake: { replid: "a".repeat(40), offset: 1 } },
    { send: bulkPayload(rdb).subarray(0, 2000) },
    { waitMs: 20 },
    { close: true },
  ] as const;
  await using primary = fakePrimary({
    connections: [
      ...Array.from({ length: 4 }, () => breaking),
      async (peer) => {
        await standardHandshake(peer, { replid: "a".repeat(40), offset: 1 });
        await peer.send(bulkPayload(rdb));
      },
    ],
  });
  using dir = tempDir("storm");
  await using replica = startReplica([
    "follow",
    primary.url,
    "--dir",
    dir.file("data"),
    "--port",
    "0",
    "--retry-max",
    "150ms",
  ]);
  await replica.waitForLine(/connected by full resync/);
  const breaks = replica.stderr.split("\n").filter((line) => line.includes("next attempt"));
  expect(breaks).toHaveLength(4);
  for (const line of breaks) {
    expect(line).toMatch(/after 1\.9 KiB of 4\.\d KiB in \d+\.\d s, .*\/s/);
  }
  // Nothing that this primary says bears out any cause.
  expect(replica.stderr).not.toContain("client-output-buffer-limit");
  expect(breaks[3]).toContain("; 4 times in a row");
  const waits = breaks.map((line) => Number(/next attempt in (\d+) ms/.exec(line)?.[1]));
  // Ceilings of 150, 150, 300 and 600 ms; each pause is at least half of its ceiling.
  expect(Math.max(waits[0]!, waits[1]!)).toBeLessThanOrEqual(150);
  expect(waits[3]).toBeGreaterThanOrEqual(300);
});
