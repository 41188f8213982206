import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { endingWithParent } from "../support/children.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { bootCopy, startServer } from "../support/servers.ts";
import { amount, IS_FULL } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { smallRdb } from "./bad-input-rig.ts";

const project = join(import.meta.dir, "../..");
const mebibyte = 1024 * 1024;
/** Size of the snapshot in the memory tests. */
const SNAPSHOT_GIB = amount("SNAPSHOT_GIB", { sample: 0.25, full: 2 });

describe("demo", () => {
  for (const binary of IS_FULL ? (["source", "compiled"] as const) : (["source"] as const)) {
    test(`${binary}: every part works, and a stock server starts from its files`, async () => {
      using dir = tempDir("demo");
      const { exitCode, stdout, stderr } = await runReplica(["demo"], {
        binary,
        cwd: dir.path,
        env: { TMPDIR: dir.path },
        timeoutMs: 150_000,
      });
      expect(stderr).not.toContain("replica: ");
      expect(exitCode).toBe(0);
      for (const step of [
        /^1\. .*made-up keys/m,
        /^2\. Full resync \(\$EOF form\).*verified, synced to disk/m,
        /^3\. Live stream/m,
        /^4\. .*partial resync/m,
        /^5\. Backup.*checksum verified/m,
        /^6\. .*durable here/m,
        /^7\. .*has all of it: the snapshot in \d+ pieces/m,
        /^8\. The data directory is removed/m,
        /^ {3}Snapshot and stream are the same, byte for byte/m,
      ]) {
        expect(stdout).toMatch(step);
      }
      const made = readdirSync(dir.path).filter((name) => name.startsWith("replica-demo-"));
      expect(made).toHaveLength(1);
      expect(readdirSync(dir.file(made[0]!)).toSorted()).toEqual([
        "archive",
        "demo-backup.rdb",
        "restored",
      ]);
      // What it says removes it.
      const [, remove = "", folder = ""] = /To remove it: (rm -r (\S+))\n$/.exec(stdout) ?? [];
      expect(folder).toBe(dir.file(made[0]!));
      await using copy = await bootCopy("redis-7.0", dir.file(made[0]!, "restored/appendonlydir"));
      const keys = await copy.keysPerDatabase();
      expect(keys[0]).toBeGreaterThan(200_000);
      expect(keys[1]).toBeGreaterThan(70_000);
      expect(Bun.spawnSync(["sh", "-c", remove]).exitCode).toBe(0);
      expect(readdirSync(dir.path)).toEqual([]);
    });
  }

  test("that is stopped says how to remove what it wrote, whatever the folder's name", async () => {
    using dir = tempDir("demo-stopped");
    const place = dir.file("it's here");
    await using replica = startReplica(["demo", "--dir", place]);
    await until(() => /^1\. /m.test(replica.stdout), { what: "its first step" });
    replica.signal("SIGTERM");
    expect((await replica.ended()).exitCode).toBe(1);
    const [, remove = ""] = /To remove it: (.*)\n$/.exec(replica.stdout) ?? [];
    expect(remove).toContain("here");
    expect(Bun.spawnSync(["sh", "-c", remove]).exitCode).toBe(0);
    expect(readdirSync(dir.path)).toEqual([]);
  });

  test("refuses a folder that isn't empty", async () => {
    using dir = tempDir("demo-full");
    await Bun.write(dir.file("a file"), "of somebody");
    const { exitCode, stderr } = await runReplica(["demo", "--dir", dir.path]);
    expect(stderr).toMatch(/^replica: .* is not empty: the demo needs a new or empty --dir\n$/);
    expect(exitCode).toBe(2);
    expect(readdirSync(dir.path)).toEqual(["a file"]);
  });
});

describe("the compiled program", () => {
  test("ignores Bun's settings files in the folder where it is started", async () => {
    using dir = tempDir("compiled");
    await Bun.write(dir.file(".env"), "REPLICA_LOG_LEVEL=nonsense\n");
    await Bun.write(dir.file("bunfig.toml"), 'preload = ["./preload.ts"]\n');
    await Bun.write(dir.file("preload.ts"), "process.exit(7);\n");
    const run = (env: Record<string, string>) =>
      runReplica(["snapshots", "none"], { cwd: dir.path, env });
    expect((await run({})).stderr).toContain("none isn't a replica data directory");
    expect((await run({ REPLICA_LOG_LEVEL: "nonsense" })).stderr).toContain("nonsense");
  });

  test("follows a real primary, reports its status, resumes", async () => {
    await using server = await startServer("redis-7.0");
    await server.cli("set", "a", "1");
    using dir = tempDir("compiled");
    const args = ["follow", server.url(), "--dir", dir.file("data"), "--port", "0"];
    for (const how of ["full", "partial"]) {
      await using replica = startReplica(args, { cwd: dir.path });
      const serving = await replica.waitForLine(/serving (127\.0\.0\.1:\d+)/);
      await replica.waitForLine(new RegExp(`connected by ${how} resync`));
      const status = await runReplica(["status", serving[1]!, "--json"]);
      expect(status.exitCode).toBe(0);
      const told = JSON.parse(status.stdout) as Record<string, unknown>;
      expect(told).toMatchObject({
        role: "slave",
        state: "connected",
        master_link_status: "up",
        master_port: server.port,
        generation: 1,
        full_syncs: how === "full" ? 1 : 0,
        partial_syncs: how === "full" ? 0 : 1,
      });
      expect((await replica.stop()).exitCode).toBe(0);
    }
    expect(existsSync(dir.file("replica-data"))).toBe(false);
  });
});

describe("a large snapshot", () => {
  test.each(["source", "compiled"] as const)(
    "%s: is verified on all cores, from any folder",
    async (binary) => {
      using dir = tempDir("large");
      const bytes = 100 * mebibyte;
      const rdb = smallRdb("a value", bytes);
      await Bun.write(dir.file("whole.rdb"), rdb);
      rdb[bytes / 2]! ^= 1;
      await Bun.write(dir.file("damaged.rdb"), rdb);
      const run = (name: string) =>
        runReplica(["verify", name, "--log-level", "debug"], { binary, cwd: dir.path });
      const threads = Math.min(availableParallelism(), 8);
      const says = threads > 1 ? [`checking on ${threads} threads`] : [];
      const said = (text: string) => [...(text.match(/checking on \d+ threads/g) ?? [])];
      const whole = await run("whole.rdb");
      expect([whole.exitCode, whole.stdout]).toEqual([0, expect.stringContaining("verified")]);
      expect(said(whole.stderr)).toEqual(says);
      const damaged = await run("damaged.rdb");
      expect(damaged.exitCode).toBe(3);
      expect(damaged.stdout).toMatch(/states the checksum \w{16}, but has \w{16}\n$/);
      expect(said(damaged.stderr)).toEqual(says);
    },
  );
});

describe("memory", () => {
  for (const form of ["length", "eof"]) {
    test(`stays under 160 MiB while a snapshot of ${SNAPSHOT_GIB} GiB arrives, form ${form}`, async () => {
      const script = join(project, "test/support/embedded-primary.ts");
      const primary = Bun.spawn(
        endingWithParent([
          process.execPath,
          script,
          String(1_000_000 * SNAPSHOT_GIB),
          "1024",
          form,
        ]),
        { stdout: "pipe" },
      );
      try {
        const reader = primary.stdout.getReader();
        const url = new TextDecoder().decode((await reader.read()).value).trim();
        using dir = tempDir("memory");
        await using replica = startReplica([
          "follow",
          url,
          "--dir",
          dir.file("data"),
          "--port",
          "0",
        ]);
        const [, size, unit] = await replica.waitForLine(
          /connected by full resync: (\d+\.\d) ([MG]iB)/,
        );
        const gibibytes = Number(size) / (unit === "GiB" ? 1 : 1024);
        expect(gibibytes).toBeWithin(SNAPSHOT_GIB * 0.95, SNAPSHOT_GIB * 1.05);
        await until(() => replica.rssPeakBytes() > 0, { timeoutMs: 1000, what: "a reading" });
        expect(replica.rssPeakBytes()).toBeLessThan(160 * mebibyte);
        expect((await replica.stop()).exitCode).toBe(0);
      } finally {
        primary.kill();
        await primary.exited;
      }
    }, 150_000);
  }
});
