import { expect, setDefaultTimeout } from "bun:test";
import * as fs from "node:fs";
import { isLeftover } from "../../src/archive/store/file-store.ts";
import { APPEND_DIR } from "../../src/store/restore/restore.ts";
import { runReplica } from "../support/replica-process.ts";
import { bootCopy, startServer } from "../support/servers.ts";
import { smallDisk } from "../support/small-disk.ts";
import { tempDir } from "../support/temp.ts";
import { PATIENCE_MS, until } from "../support/wait.ts";
import { MIB, onSmallDisk, SteadyWrites, WatchedReplica } from "./small-disk-rig.ts";

setDefaultTimeout(2 * PATIENCE_MS);

const KIND = "redis-7.0";
const DISK_BYTES = 4 * MIB;
const RATE_BYTES = 4 * MIB;

onSmallDisk(
  "a full disk under the archive, and one that is read-only, touch neither log nor ACKs, are told once each, and are gone on from",
  async () => {
    using temp = tempDir("archive-small-disk");
    using disk = smallDisk(temp.file("disk"), DISK_BYTES);
    const folder = temp.file("disk", "archive");
    const url = `file://${folder}`;
    await using primary = await startServer(KIND);
    await using writes = new SteadyWrites(primary, RATE_BYTES, 7);
    const archived = [
      "--archive",
      url,
      "--archive-every",
      "200ms",
      "--archive-compression",
      "none",
    ];
    await using replica = new WatchedReplica(primary, temp.file("data"), [
      "--ack",
      "durable",
      ...archived,
    ]);
    const { process } = replica;
    const told = (pattern: RegExp) => process.stderr.match(pattern)?.length ?? 0;
    const away = /gets nothing at present/g;
    const back = /gets objects again/g;
    /** The stream is acknowledged as durable, and nothing else is said of it. */
    const goesOn = async (bytes: number) => {
      const { bytes: before } = writes;
      await until(() => writes.bytes > before + bytes, { what: "more of the stream" });
      await primary.acknowledgedBy(1);
      expect(await replica.whyNotReady()).toBeUndefined();
      expect(process.stderr.match(/next attempt|ERR/g)).toBeNull();
    };
    await process.waitForLine(/connected by full resync/);
    await process.waitForLine(new RegExp(`${url} gets nothing.*the disk is full: make room`));
    await goesOn(2 * DISK_BYTES);
    expect([told(away), told(back)]).toEqual([1, 0]);
    // A put that failed leaves nothing.
    const left = () =>
      (fs.readdirSync(folder, { recursive: true }) as string[]).filter((name) =>
        isLeftover(name.split("/").at(-1)!),
      );
    await until(() => left().length === 0, { what: "no rest of a put" });
    disk!.resize(64 * DISK_BYTES);
    await until(() => told(back) === 1, { what: "the archive to get objects again" });
    disk!.remount("ro");
    await until(() => told(away) === 2, { what: "a read-only archive to be told" });
    await goesOn(DISK_BYTES);
    expect([told(away), told(back)]).toEqual([2, 1]);
    disk!.remount("rw");
    await until(() => told(back) === 2, { what: "the archive to get objects again" });
    await writes.stop();
    await primary.acknowledgedBy(1);
    const end = await primary.offset();
    const archivedOffset = async () => {
      const { stdout } = await runReplica(["snapshots", url, "--json"]);
      const { generations } = JSON.parse(stdout) as { generations: { to_offset: number }[] };
      return generations.at(-1)!.to_offset;
    };
    await until(async () => (await archivedOffset()) >= end, { what: "all of it in the archive" });
    const checked = await runReplica(["verify", url]);
    expect([checked.exitCode, checked.stdout]).toEqual([0, expect.stringContaining("no damage")]);
    expect((await runReplica(["restore", url, temp.file("target")])).exitCode).toBe(0);
    await using copy = await bootCopy(KIND, temp.file("target", APPEND_DIR));
    expect(await copy.digest()).toBe(await primary.digest());
  },
);
