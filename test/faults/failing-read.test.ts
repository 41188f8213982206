import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { ReplicaError } from "../../src/base/errors.ts";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { type Layout, restore } from "../../src/store/restore/restore.ts";
import { restorePoint } from "../../src/store/restore/restore-point.ts";
import { verifyGeneration } from "../../src/store/restore/verify.ts";
import { filesIn, REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { currentFiles } from "../support/generation-files.ts";
import { ModelPrimary } from "../support/model-primary.ts";
import { fullSync, relaying } from "../support/relaying.ts";
import { runReplica } from "../support/replica-process.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { Lifetime, RememberingDisk } from "./lifetime-rig.ts";

/** A regular file of Linux whose first byte can't be read: EIO. */
const UNREADABLE = "/proc/self/mem";
const SAYS = /^(.*) \/\S+: the device reports an error: check the disk \(EIO\)$/;

let made: TempDir;
/** Makes a data directory with two generations. */
let data: string;

beforeAll(async () => {
  made = tempDir("reading");
  await using primary = new ModelPrimary();
  const life = new Lifetime(made, primary, new RememberingDisk(), {
    fsync: "always",
    keep: "1",
    "keep-for": "off",
  });
  await life.first();
  data = life.path;
});
afterAll(() => made[Symbol.dispose]());

const surroundings = { signal: new AbortController().signal, onProgress: () => undefined };
const whole = { generation: undefined, atMs: undefined, offset: undefined };

/** A disk that doesn't count read-ahead past the end of a file among the failing calls. */
class ReadingDisk extends FaultyDisk {
  override read(fd: number, buffer: Uint8Array, position: number): Promise<number> {
    if (position >= fs.fstatSync(fd).size) return Promise.resolve(0);
    return super.read(fd, buffer, position);
  }
}

/** Runs `act` once for each disk call, which fails, and then without a failure. */
async function failing(act: (disk: FaultyDisk) => Promise<unknown>): Promise<number> {
  for (let call = 1; ; call++) {
    const disk = new ReadingDisk({ call, code: "EIO" });
    const error = await act(disk).then(
      () => undefined,
      (failure: unknown) => failure,
    );
    expect(disk.openFds).toEqual(new Set());
    const [struck] = disk.struck;
    if (struck === undefined) {
      expect(error).toBeUndefined();
      return call - 1;
    }
    // An error of close(2) after a read doesn't matter.
    if (error === undefined && struck.operation === "close") continue;
    expect(error, struck.operation).toBeInstanceOf(ReplicaError);
    expect(error).toMatchObject({ code: "DISK_FAILED", message: expect.stringMatching(SAYS) });
  }
}

describe("after any failed call", () => {
  test("verify reports it, and reports no damage", async () => {
    using catalogue = new Catalogue(data);
    for (const generation of catalogue.generations) {
      const calls = await failing(async (disk) => {
        const found = await verifyGeneration(catalogue, generation, { ...surroundings, disk });
        expect(found.damages).toEqual([]);
      });
      expect(calls).toBeGreaterThan(6);
    }
  });

  test.each([
    ["multipart", "a new folder"],
    ["multipart", "an empty folder"],
    ["single", "a new folder"],
    ["single", "an empty folder"],
  ] as [Layout, string][])(
    "restore, %s into %s, reports it, and leaves nothing",
    async (layout, kind) => {
      using dir = tempDir("restore");
      const before = filesIn(data);
      let last: Record<string, string> = {};
      const calls = await failing(async (disk) => {
        fs.rmSync(dir.file("there"), { recursive: true, force: true });
        fs.mkdirSync(dir.file("there"));
        const target = kind === "a new folder" ? dir.file("there", "target") : dir.file("there");
        using catalogue = new Catalogue(data);
        const point = restorePoint(catalogue, whole);
        await restore(catalogue, point, target, { ...surroundings, disk, layout }).finally(() => {
          last = filesIn(dir.file("there"));
          if (disk.struck.some(({ operation }) => operation !== "close")) expect(last).toEqual({});
        });
      });
      expect(calls).toBeGreaterThan(15);
      expect(Object.keys(last).length).toBeGreaterThan(0);
      expect(filesIn(data)).toEqual(before);
    },
  );
});

describe("an unreadable file", () => {
  test("ends verify of an RDB with 1, and says what to do", async () => {
    const ended = await runReplica(["verify", UNREADABLE]);
    expect(ended).toMatchObject({ exitCode: 1, stdout: "" });
    expect(ended.stderr).toMatch(
      /reading byte 0 of \/proc\/self\/mem: the device reports an error: check the disk \(EIO\)\n$/,
    );
  });

  test.each(["base", "log"] as const)(
    "%s: ends verify and restore with 1, and leaves nothing",
    async (name) => {
      using dir = tempDir("unreadable");
      const copy = dir.file("copy");
      fs.cpSync(data, copy, { recursive: true, verbatimSymlinks: true });
      const file = currentFiles(copy)[name];
      fs.rmSync(file);
      fs.symlinkSync(UNREADABLE, file);
      for (const command of [
        ["verify", copy],
        ["restore", copy, dir.file("out")],
      ]) {
        const ended = await runReplica(command);
        expect(ended.exitCode).toBe(1);
        expect(ended.stderr).toMatch(/ \/\S+: the device reports an error: check the disk \(EIO\)/);
      }
      expect(fs.readdirSync(dir.path)).toEqual(["copy"]);
    },
  );
});

test("after any failed read of the relay, that downstream is dropped and logged, the next one served", async () => {
  const rdb = smallRdb("a value", 300_000);
  const disk = new FaultyDisk();
  await using relay = await relaying({}, [(peer) => fullSync(peer, rdb)], disk);
  await relay.stream("abcdef");
  const open = new Set(disk.openFds);
  const left = async () => {
    await until(() => relay.replica.relay.downstreams.size === 0, { what: "its end" });
    await until(() => Bun.deepEquals(disk.openFds, open), { what: "its files to be closed" });
  };
  const wanted = `+FULLRESYNC ${REPLID} 100\r\n$${rdb.length}\r\n${rdb.toString("latin1")}abcdef`;
  const sync = async () => {
    await using downstream = await relay.connect();
    downstream.say("PSYNC", "?", -1);
    await until(() => downstream.isClosed || downstream.came.length >= wanted.length, {
      what: "all, or the end",
    });
    expect(wanted.startsWith(downstream.came)).toBe(true);
    return downstream.came === wanted;
  };
  expect(await sync()).toBe(true);
  await left();
  let failures = 0;
  // What the replica itself does every second is none of the relay's.
  for (const operation of ["openToRead", "read", "close"] as const) {
    for (let call = 1; ; call++) {
      const before = disk.struck.length;
      disk.fail({ operation, call, code: "EIO" });
      const isWhole = await sync();
      await left();
      disk.heal();
      if (disk.struck.length === before) break;
      expect(isWhole).toBe(operation === "close");
      if (!isWhole) failures++;
      // The followed link goes on, and the next downstream is served.
      expect(relay.replica.state.at).toBe("connected");
      expect(await sync()).toBe(true);
      await left();
    }
  }
  expect(failures).toBeGreaterThan(3);
});
