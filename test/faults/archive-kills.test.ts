import { expect, test } from "bun:test";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { Archive } from "../../src/archive/reader/archive.ts";
import { ArchiveSource } from "../../src/archive/reader/archive-source.ts";
import { verifyArchive } from "../../src/archive/reader/verify-archive.ts";
import { FileStore } from "../../src/archive/store/file-store.ts";
import { realFolderDisk } from "../../src/archive/store/folder-disk.ts";
import { realClock } from "../../src/base/clock.ts";
import { APPEND_DIR } from "../../src/store/restore/restore.ts";
import { type ReadGeneration, readArchive } from "../archive/writer/rig.ts";
import { Random } from "../support/fill.ts";
import { freePort } from "../support/ports.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { bootCopy, type RealServer, startServer } from "../support/servers.ts";
import { StreamRecorder } from "../support/stream-recorder.ts";
import { amount, IS_FULL, seedOf } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { SeededLoad } from "./seeded-load.ts";

/** More kills: `ARCHIVE_KILLS=1000 bun test test/faults/archive-kills.test.ts`. */
const KILLS = amount("ARCHIVE_KILLS", { sample: 4, full: 18 });
const SEED = seedOf("ARCHIVE_KILL_SEED");
const KIND = "redis-7.0";

/** The aim of a kill: it may miss, but not always. */
const AIMS = ["base", "acknowledged", "renewal", "full sync", "acknowledged", "anywhere"] as const;
type Aim = (typeof AIMS)[number];

/** The highest offset that the primary has seen acknowledged by the replica at this port. */
class Acknowledged implements AsyncDisposable {
  highest = 0;
  #isOver = false;
  readonly #running: Promise<void>;

  constructor(primary: RealServer, port: number) {
    this.#running = this.#watch(primary, port);
  }

  async #watch(primary: RealServer, port: number): Promise<void> {
    await using client = await primary.connect();
    const told = new RegExp(`port=${port},state=online,offset=(\\d+)`);
    while (!this.#isOver) {
      const offset = Number(told.exec(String(await client.send("INFO", "replication")))?.[1] ?? 0);
      this.highest = Math.max(this.highest, offset);
      await Bun.sleep(2);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }
}

const signal = new AbortController().signal;
const storeIn = (folder: string) => new FileStore(folder, realFolderDisk, realClock);

function filesBelow(path: string): string[] {
  try {
    return readdirSync(path, { recursive: true, encoding: "utf8" });
  } catch {
    // It isn't there yet, or changes meanwhile.
    return [];
  }
}

async function hit(
  aim: Aim,
  replica: ReplicaProcess,
  acknowledged: Acknowledged,
  { data, folder }: { data: string; folder: string },
  random: Random,
): Promise<void> {
  const piecesIn = () => filesBelow(folder).filter((name) => name.includes("base/")).length;
  const before = piecesIn();
  const find = (what: string, isThere: () => boolean) => until(isThere, { what, everyMs: 1 });
  switch (aim) {
    case "anywhere":
      return await Bun.sleep(random.below(900));
    case "base":
      await find("a piece of a base", () => piecesIn() > before);
      return await Bun.sleep(random.below(80));
    case "full sync":
      await find("a snapshot that comes in", () =>
        filesBelow(data).some((name) => /temp-\d+\.\d+\.rdb$/.test(name)),
      );
      return await Bun.sleep(random.below(80));
    case "renewal":
      await replica.waitForLine(/connected by/);
      replica.signal("SIGUSR1");
      return await Bun.sleep(random.below(900));
    case "acknowledged":
      await find("an ACK of this process", () => acknowledged.highest > 0);
      return await Bun.sleep(random.below(600));
  }
}

/** Where a generation of an archive ends. */
function endOf({ document, segments }: ReadGeneration): number {
  return segments.at(-1)?.to ?? document.baseOffset;
}

/** Expects that every generation in an archive is a part of the stream. Returns those that are whole. */
async function expectPrefixes(folder: string, recorder: StreamRecorder): Promise<ReadGeneration[]> {
  const read = existsSync(folder) ? await readArchive(storeIn(folder)) : [];
  for (const generation of read) {
    const { document, log, baseDocument, name } = generation;
    const end = endOf(generation);
    const stream = await recorder.stream(document.baseOffset, end);
    expect([name, log.subarray(log.length - stream.length).equals(stream)]).toEqual([name, true]);
    if (log.length > 0)
      expect(log.toString("latin1", 0, log.length - stream.length)).toMatch(
        /^\*2\r\n\$6\r\nSELECT/,
      );
    if (baseDocument === undefined) expect([name, log.length]).toEqual([name, 0]);
  }
  return read.filter(({ baseDocument }) => baseDocument !== undefined);
}

/** Expects that nothing in an archive is damaged; what isn't whole yet is no damage. */
async function expectSound(folder: string): Promise<void> {
  const archive = await Archive.open(new ArchiveSource(storeIn(folder), undefined), signal);
  const options = { quick: false, signal, onProgress: () => undefined };
  const { damages } = await verifyArchive(archive, options);
  expect(damages).toEqual([]);
}

test(
  `after each of ${KILLS} kills the archive is a beginning of the history, with all that was acknowledged`,
  async () => {
    const random = new Random(SEED);
    using dir = tempDir("archive-kills");
    const [data, folder] = [dir.file("data"), dir.file("archive")];
    const url = `file://${folder}`;
    await using primary = await startServer(KIND, {
      args: ["--repl-backlog-size", "256mb", "--rdbcompression", "no"],
    });
    // Enough for a base of several pieces, and a transfer that takes its time.
    await primary.send("DEBUG", "POPULATE", 100, "large", 200_000);
    await primary.send("CONFIG", "SET", "rdb-key-save-delay", 100);
    await using recorder = await StreamRecorder.start(primary);
    await using load = await SeededLoad.start(primary, SEED);
    let highest = 0;
    let wholes: ReadGeneration[] = [];
    const start = (port: number, ...more: string[]) => {
      const every = `${100 + random.below(900)}ms`;
      const archived = ["--archive", url, "--ack", "archived", "--archive-every", every];
      const where = ["--dir", data, "--port", String(port), "--retry-max", "100ms"];
      return startReplica(["follow", primary.url(), ...where, ...archived, ...more]);
    };
    for (let kill = 0; kill < KILLS; kill++) {
      const aim = AIMS[kill % AIMS.length]!;
      // What the directory held is in the archive still; another directory goes to folders of its own.
      const isFresh = aim === "full sync" || random.below(8) === 0;
      if (isFresh) rmSync(data, { recursive: true, force: true });
      const port = freePort();
      await using acknowledged = new Acknowledged(primary, port);
      // Filled from the archive, a directory needs no full sync.
      const more = aim === "full sync" ? ["--no-archive-bootstrap"] : [];
      await using replica = start(port, ...more);
      const possible = aim === "base" && !isFresh && kill > 0 ? "renewal" : aim;
      await hit(possible, replica, acknowledged, { data, folder }, random);
      const shown = () =>
        `kill ${kill + 1} at ${possible}, ARCHIVE_KILL_SEED=${SEED}\n${replica.output()}`;
      expect(replica.isRunning, shown()).toBe(true);
      await replica.kill9();
      highest = Math.max(highest, acknowledged.highest);
      try {
        wholes = await expectPrefixes(folder, recorder);
        if (existsSync(folder)) await expectSound(folder);
      } catch (error) {
        throw new Error(`${String(error)}\n${shown()}`, { cause: error });
      }
      const farthest = Math.max(0, ...wholes.map(endOf));
      expect(farthest, shown()).toBeGreaterThanOrEqual(highest);
    }
    expect(highest).toBeGreaterThan(recorder.baseOffset);
    await using replica = start(freePort());
    await replica.waitForLine(/connected by/);
    await load.stop();
    // The recorder acknowledges nothing.
    await primary.acknowledgedBy(1);
    expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
    wholes = await expectPrefixes(folder, recorder);
    rmSync(data, { recursive: true });
    const checked = await runReplica(["verify", url]);
    expect([checked.exitCode, checked.stdout]).toEqual([0, expect.stringContaining("no damage")]);
    await expectRestored(url, [], primary);
    // And of those before, as a stock server was then.
    for (let left = IS_FULL ? 4 : 1; left > 0; left--) {
      const generation = wholes[random.below(wholes.length)]!;
      const then = dir.file(`then-${left}`);
      const end = endOf(generation);
      await recorder.writeAsOf(end, then);
      await using server = await bootCopy(KIND, then);
      // By itself a reader goes on with what others wrote of the same log, as one does that was filled from here.
      await expectRestored(url, ["--generation", generation.name, "--offset", String(end)], server);
    }
    console.log(
      `${wholes.length} whole generations, ${load.commands} commands, ${highest - recorder.baseOffset} bytes acknowledged`,
    );
  },
  60_000 + KILLS * 8_000,
);

/** Expects that a restore from the archive gives what a server has. */
async function expectRestored(
  url: string,
  options: readonly string[],
  server: RealServer,
): Promise<void> {
  using target = tempDir("archive-kills-target");
  const restored = await runReplica(["restore", url, target.file("target"), ...options]);
  expect([restored.exitCode, restored.stderr]).toEqual([0, expect.any(String)]);
  await using copy = await bootCopy(KIND, target.file("target", APPEND_DIR));
  expect(await copy.digest()).toBe(await server.digest());
}
