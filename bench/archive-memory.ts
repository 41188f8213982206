import * as fs from "node:fs";
import { join } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { baseFolder, BASE_FILE, logFolder, parseSegmentName } from "../src/archive/format/names.ts";
import { formatBytes } from "../src/base/quantity.ts";
import { type RealServer, startServer } from "../test/support/servers.ts";
import { freePort } from "../test/support/ports.ts";
import { until } from "../test/support/wait.ts";
import { MEGABYTE } from "./blaster.ts";
import { Measured, peakRssOf, scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
const SINK = join(import.meta.dir, "s3-sink.ts");
const KIND = "valkey-9";
const MIB = 2 ** 20;
const VALUE_BYTES = 64 * 1024;
const RATE = 30 * MEGABYTE;
const TICK_MS = 20;
const LIMIT_MS = 600_000;

/** The most memory that the program has had in one part of its life. */
export interface MemoryRow {
  readonly store: string;
  readonly baseBytes: number;
  readonly phase: string;
  readonly peakRssMiB: number;
  readonly seconds: number;
}

/** Where the archive goes: a folder in both cases, behind a server or not. */
interface Place {
  readonly name: string;
  readonly url: string;
  /** The archive's own folder. */
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
  /** Takes the store away until what it returns is called. */
  readonly away: () => Promise<() => Promise<void>>;
}

/**
 * Measures how much memory the program takes with an archive that is compressed and encrypted, of values that nothing
 * compresses: while it receives and archives a snapshot, a stream, while the store is away and after; and while a data
 * directory, a restore and a verification read the archive.
 */
export async function benchArchiveMemory(options: {
  readonly sizes: readonly number[];
  readonly seconds: number;
}): Promise<MemoryRow[]> {
  refuseWithoutProgram();
  const rows: MemoryRow[] = [];
  console.log("\n| store | snapshot | while | seconds | peak RSS |\n|---|--:|---|--:|--:|");
  for (const baseBytes of options.sizes) {
    for (const withStore of [inFolder, inSink]) {
      using scratch = scratchDirectory();
      await withStore(scratch.path, async (place) => {
        const store = place.name;
        const note = (phase: string, peakBytes: number, seconds: number) => {
          const peakRssMiB = peakBytes / MIB;
          rows.push({ store, baseBytes, phase, peakRssMiB, seconds });
          console.log(
            `| ${store} | ${formatBytes(baseBytes)} | ${phase} | ${seconds.toFixed(1)} | ${peakRssMiB.toFixed(0)} MiB |`,
          );
        };
        await life(place, scratch.path, baseBytes, options.seconds, note);
      });
    }
  }
  return rows;
}

async function life(
  place: Place,
  dir: string,
  baseBytes: number,
  seconds: number,
  note: (phase: string, peakBytes: number, seconds: number) => void,
): Promise<void> {
  const key = await generateX25519Identity();
  const identity = join(dir, "identity.txt");
  fs.writeFileSync(identity, `${key}\n`);
  const recipient = await identityToRecipient(key);
  const args = ["--repl-backlog-size", "512mb", "--client-output-buffer-limit", "replica 0 0 0"];
  await using primary = await startServer(KIND, { args });
  await setValues(primary, baseBytes, Infinity);
  const archive = ["--archive", place.url, "--archive-every", "1s"];
  const where = ["--port", "0", "--no-progress", "--archive-recipient", recipient];
  const follow = (data: string) =>
    new Measured(
      [PROGRAM, "follow", primary.url(), "--dir", join(dir, data), ...archive, ...where].concat(
        "--archive-identity",
        identity,
      ),
      undefined,
      place.env,
    );
  const archived = async () => {
    const end = await primary.offset();
    await until(() => farthest(place.folder) >= end, {
      what: "the archive to have all",
      timeoutMs: LIMIT_MS,
      everyMs: 100,
    });
  };
  const running = follow("data");
  const phase = async (name: string, act: () => Promise<unknown>) => {
    const beganMs = performance.now();
    await act();
    note(name, peakRssOf(running.child.pid)!, (performance.now() - beganMs) / 1000);
    // VmHWM begins anew.
    fs.writeFileSync(`/proc/${running.child.pid}/clear_refs`, "5");
  };
  await phase("a snapshot is archived", async () => {
    await until(() => hasBase(place.folder), { what: "the snapshot", timeoutMs: LIMIT_MS });
  });
  await phase("a stream is archived", async () => {
    await setValues(primary, seconds * RATE, RATE);
    await archived();
  });
  let back: () => Promise<void>;
  await phase("the store is away", async () => {
    back = await place.away();
    await setValues(primary, seconds * RATE, RATE);
  });
  await phase("it is there again", async () => {
    await back();
    await setValues(primary, (seconds / 4) * RATE, RATE);
    await archived();
  });
  await running.kill("SIGTERM");
  const filled = follow("filled");
  await filled.says(/^.*filled .* from the archive/m);
  note("a data directory is filled", peakRssOf(filled.child.pid)!, filled.seconds);
  await filled.kill("SIGTERM");
  for (const [name, words] of [
    ["a restore", ["restore", place.url, join(dir, "target"), "--no-progress"]],
    ["a verification", ["verify", place.url, "--no-progress"]],
  ] as const) {
    const argv = [PROGRAM, ...words, "--archive-identity", identity];
    const figures = await new Measured(argv, undefined, place.env).ends();
    note(name, figures.peakRssBytes, figures.seconds);
  }
}

/** Sets values of random bytes, so many in all, at a rate. */
async function setValues(primary: RealServer, bytes: number, rate: number): Promise<void> {
  await using client = await primary.connect();
  const beganMs = performance.now();
  const count = Math.ceil(bytes / VALUE_BYTES);
  for (let done = 0; done < count;) {
    const due = Math.ceil((((performance.now() - beganMs) / 1000) * rate) / VALUE_BYTES);
    const batch = Math.max(0, Math.min(due, done + 64, count) - done);
    const commands = Array.from({ length: batch }, (_, n) => [
      "SET",
      `key:${done + n}`,
      crypto.getRandomValues(new Uint8Array(VALUE_BYTES)),
    ]);
    if (batch > 0) await client.exchange(commands);
    done += batch;
    if (rate !== Infinity) await Bun.sleep(TICK_MS);
  }
}

function generationsIn(folder: string): string[] {
  const path = join(folder, "generations");
  return fs.existsSync(path) ? fs.readdirSync(path) : [];
}

function hasBase(folder: string): boolean {
  return generationsIn(folder).some((name) =>
    fs.existsSync(join(folder, baseFolder(name), "..", BASE_FILE)),
  );
}

/** The farthest offset in the archive. */
function farthest(folder: string): number {
  let end = 0;
  for (const generation of generationsIn(folder)) {
    const log = join(folder, logFolder(generation));
    if (!fs.existsSync(log)) continue;
    for (const name of fs.readdirSync(log)) end = Math.max(end, parseSegmentName(name)?.to ?? 0);
  }
  return end;
}

async function inFolder(dir: string, work: (place: Place) => Promise<void>): Promise<void> {
  const mount = join(dir, "mount");
  fs.mkdirSync(mount);
  const folder = join(mount, "archive");
  await work({
    name: "a folder",
    url: `file://${folder}`,
    folder,
    env: {},
    away: async () => {
      fs.renameSync(mount, `${mount}.away`);
      return async () => fs.renameSync(`${mount}.away`, mount);
    },
  });
}

async function inSink(dir: string, work: (place: Place) => Promise<void>): Promise<void> {
  const keep = join(dir, "kept");
  const port = freePort();
  const start = async () => {
    const argv = [process.execPath, SINK, "--keep", keep, "--port", String(port)];
    const sink = new Measured(argv);
    await sink.says(/^\d+$/m);
    return sink;
  };
  let sink = await start();
  try {
    await work({
      name: "a bare S3 server",
      url: "s3://bench/archive",
      folder: join(keep, "archive"),
      env: {
        AWS_ACCESS_KEY_ID: "none",
        AWS_SECRET_ACCESS_KEY: "none",
        AWS_ENDPOINT_URL: `http://127.0.0.1:${port}`,
      },
      away: async () => {
        await sink.kill("SIGKILL");
        return async () => {
          sink = await start();
        };
      },
    });
  } finally {
    await sink.kill("SIGKILL");
  }
}
