import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { ReplicaError } from "../../../src/base/errors.ts";
import { chooseKeys } from "../../../src/inspect/chosen/choose-keys.ts";
import { writeChosenFolder } from "../../../src/inspect/chosen/chosen-folder.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { restorePoint } from "../../../src/store/restore/restore-point.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { Random } from "../../support/fill.ts";
import { availableServers } from "../../support/servers.ts";
import { seedOf, stride } from "../../support/sweep.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { choosing, programOf } from "./equality.ts";
import { madeRdb, makeHistory } from "./made-history.ts";

const KIND = availableServers()[0]!;
const TIME_LIMIT_MS = 600_000;

/** Restores a key whose history needs the snapshot, the log and a server. */
async function restoreKey(dir: TempDir, disk: FaultyDisk, target: string): Promise<void> {
  const server = await programOf(dir, KIND);
  using catalogue = new Catalogue(dir.file("data"));
  const all = { generation: undefined, atMs: undefined, offset: undefined };
  const point = restorePoint(catalogue, all);
  const wanted = { patterns: ["a"], db: undefined };
  await using chosen = await chooseKeys(catalogue, point, wanted, choosing(server, { disk }));
  const how = { layout: "multipart" as const, mode: undefined, target: undefined, nowMs: 0 };
  const { signal } = new AbortController();
  await writeChosenFolder(chosen, catalogue, target, { ...how, disk, signal });
}

test(
  "leaves nothing, and says why, whichever call of the disk fails",
  async () => {
    using dir = tempDir("chosen");
    const random = new Random(seedOf("CHOSEN_FAULTS_SEED"));
    const keys = [
      { key: "a", value: "1" },
      { key: "b", value: "2" },
    ];
    await makeHistory(dir, madeRdb(keys), [
      ["SELECT", 0],
      ["COPY", "b", "a", "REPLACE"],
    ]);
    const own = () =>
      fs.readdirSync(tmpdir()).filter((name) => name.startsWith(`replica-stock-${process.pid}-`));
    const left = own();
    const beside = fs.readdirSync(dir.path);
    let failed = 0;
    for (let call = 1; ; call += stride(5, random)) {
      const disk = new FaultyDisk({ call, code: call % 2 === 0 ? "EIO" : "ENOSPC" });
      const target = dir.file("target");
      const error = await restoreKey(dir, disk, target).then(
        () => undefined,
        (caught: unknown) => caught,
      );
      expect([call, own()]).toEqual([call, left]);
      expect([call, ...disk.openFds]).toEqual([call]);
      if (error === undefined) {
        expect(fs.existsSync(target)).toBe(true);
        if (disk.struck.length === 0) break;
        // What failed was nothing that counts, such as closing what was read.
        disk.heal();
        fs.rmSync(target, { recursive: true });
        continue;
      }
      failed++;
      expect(error).toBeInstanceOf(ReplicaError);
      expect((error as ReplicaError).code).toMatch(/^DISK_(?:FULL|FAILED)$|^DIRECTORY_DAMAGED$/);
      expect(fs.readdirSync(dir.path).filter((name) => !name.endsWith(".sh"))).toEqual(
        beside.filter((name) => !name.endsWith(".sh")),
      );
    }
    expect(failed).toBeGreaterThan(3);
  },
  TIME_LIMIT_MS,
);
