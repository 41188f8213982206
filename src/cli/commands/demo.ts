import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { realClock } from "../../base/clock.ts";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { counted, formatBytes } from "../../base/quantity.ts";
import { parsePrimaryUrl } from "../../config/primary-url.ts";
import type { Settings } from "../../config/settings.ts";
import { VERSION } from "../../base/version.ts";
import { EmbeddedPrimary } from "../../demo/primary.ts";
import { openArchiveStore } from "../../archive/open/open-archive.ts";
import { prepareArchiving } from "../../program/archiving.ts";
import { assemble } from "../../program/assemble.ts";
import type { Replica } from "../../replica/replica.ts";
import type { ReplicaStatus } from "../../replica/status.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { APPEND_DIR } from "../../store/restore/restore.ts";
import { backup } from "../../upstream/backup.ts";
import type { CommandContext } from "./command.ts";
import { restore } from "./restore.ts";
import { snapshotOf, watchTransfer } from "./watch-transfer.ts";

const KEYS = 300_000;
const VALUE_BYTES = 256;
const WRITES_PER_SECOND = 5_000;
const STREAM_MS = 2_000;
/** A step takes about a second, and half a minute on a machine that has much else to do. */
const STEP_LIMIT_MS = 120_000;
const DEFAULT_DIR = "./replica-data";

/** What every step of the demo works with. */
interface Stage {
  readonly primary: EmbeddedPrimary;
  readonly replica: Replica;
  readonly status: ReplicaStatus;
  readonly settings: Settings;
  /** The URL of the archive. */
  readonly archive: string;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
  /** Waits until a condition holds. @throws ReplicaError TIMED_OUT, STOPPED, or what the replica failed with. */
  readonly until: (what: string, holds: () => boolean) => Promise<void>;
}

/**
 * `replica demo`: runs the real replica against an embedded primary with made-up data and live writes,
 * through a full resync, the live stream, a partial resync, a backup, a clean stop, and a restore from the archive alone.
 */
export async function demo(context: CommandContext): Promise<number> {
  const place = demoDir(context.settings);
  try {
    return await play(context, place);
  } finally {
    // Also where it failed or was stopped: these are some 200 MB.
    if (fs.existsSync(place)) {
      context.stdout.write(`All of it is in ${place}. To remove it: rm -r ${shellWord(place)}\n`);
    }
  }
}

async function play(context: CommandContext, place: string): Promise<number> {
  const { signal, stdout, stderr } = context;
  const dir = join(place, "data");
  const archive = pathToFileURL(join(place, "archive")).href;
  const settings: Settings = {
    ...context.settings,
    dir,
    port: 0,
    fsync: "everysec",
    // Nothing of an archive that the environment names for other replicas.
    archive: {
      ...context.settings.archive,
      url: archive,
      everyMs: 1_000,
      recipients: [],
      bytesPerSecond: undefined,
    },
  };
  const say = (text: string) => stdout.write(`${text}\n`);
  const primary = await EmbeddedPrimary.start({
    seed: 1,
    keys: KEYS,
    valueBytes: VALUE_BYTES,
    payloadForm: "eof",
    backlogBytes: 16 * 1024 * 1024,
    writesPerSecond: WRITES_PER_SECOND,
  });
  const target = parsePrimaryUrl(primary.url);
  const { env } = context;
  const store = openArchiveStore(archive, { settings, env, clock: realClock });
  const archiving = prepareArchiving(store, settings, { clock: realClock })(realDisk);
  const assembled = assemble(target, realDisk, realClock, settings, VERSION, { archiving });
  const { replica, status, port, run, close } = assembled;
  const stop = new AbortController();
  const stopWatching = watchTransfer(() => snapshotOf(replica), stderr, settings.progress);
  const running = run(AbortSignal.any([signal, stop.signal]));
  const until = waitingBeside(running, signal);
  try {
    say(
      `1. An embedded primary at ${primary.url} holds ${KEYS} made-up keys and takes ${WRITES_PER_SECOND} writes per second.`,
    );
    say(`   The replica follows it into ${dir} and answers redis-cli on port ${port.port}.`);
    say(`   Every second, what is durable there goes to the archive ${archive}.`);
    const stage = { primary, replica, status, settings, archive, signal, say, until };
    await showFullResync(stage);
    await showStream(stage);
    await showPartialResync(stage);
    await showBackup(stage);
    await showLastByte(stage);
    await showArchive(stage);
  } finally {
    stop.abort();
    stopWatching();
    await running.catch(() => undefined);
    primary.stop();
    close();
  }
  return await showRestore(context, { dir, archive, target: join(place, "restored"), say });
}

/** Waits for conditions while the replica runs; if the replica fails, so does the wait. */
function waitingBeside(running: Promise<void>, signal: AbortSignal): Stage["until"] {
  let failure: unknown;
  running.catch((error: unknown) => {
    failure = error;
  });
  return async (what, holds) => {
    const limitMs = realClock.monotonicMs() + STEP_LIMIT_MS;
    while (!holds()) {
      if (signal.aborted) throw new ReplicaError("STOPPED", { message: "the demo was stopped" });
      if (failure !== undefined) throw failure;
      if (realClock.monotonicMs() > limitMs) {
        throw new ReplicaError("TIMED_OUT", { message: `the demo waited too long for ${what}` });
      }
      await realClock.sleep(10, signal);
    }
  };
}

async function showFullResync({ replica, say, until }: Stage): Promise<void> {
  await until("the full resync", () => replica.state.at === "connected");
  say(`2. Full resync ($EOF form): ${describeGeneration(replica)}.`);
}

function describeGeneration(replica: Replica): string {
  const generation = replica.directory.current;
  if (generation === undefined) return "nothing was kept";
  return `a snapshot of ${formatBytes(generation.rdbBytes)}, its checksum ${generation.rdbCrc64} verified, synced to disk`;
}

async function showStream({ primary, signal, say, until }: Stage): Promise<void> {
  await realClock.sleep(STREAM_MS, signal);
  await until("an acknowledgement", () => (primary.acks()[0]?.fack ?? 0) > 0);
  const { ack, fack } = primary.acks()[0] ?? { ack: 0, fack: 0 };
  say(
    `3. Live stream: the primary is at offset ${primary.masterReplOffset}; the replica has acknowledged ${ack} as written and ${fack} as durable.`,
  );
}

async function showPartialResync({ primary, replica, say, until }: Stage): Promise<void> {
  primary.dropReplicas();
  await until(
    "the partial resync",
    () => replica.resyncs.partial === 1 && replica.state.at === "connected",
  );
  say("4. The link was cut: the replica resumed by partial resync, and nothing was sent twice.");
}

async function showBackup({ primary, settings, signal, say }: Stage): Promise<void> {
  primary.payloadForm = "length";
  const out = join(dirname(settings.dir), "demo-backup.rdb");
  const { rdb, seconds } = await backup(
    parsePrimaryUrl(primary.url),
    out,
    { disk: realDisk, clock: realClock, settings, replaces: false },
    signal,
    () => undefined,
  );
  say(
    `5. Backup ($<length> form): ${formatBytes(rdb.bytes)} in ${seconds.toFixed(2)} s, checksum verified: ${out}`,
  );
}

async function showLastByte({ primary, replica, say, until }: Stage): Promise<void> {
  primary.pauseWrites();
  await until("the last byte", () => replica.log?.durableOffset === primary.masterReplOffset);
  say(
    `6. The writes stopped: all ${primary.masterReplOffset} bytes of the primary's history are durable here.`,
  );
}

async function showArchive({ status, archive, say, until }: Stage): Promise<void> {
  const lacked = () => {
    const lag = status.archive?.lag;
    return lag === undefined ? Infinity : lag.lagBytes + lag.lagBaseBytes;
  };
  await until("the archive", () => lacked() === 0);
  const { piece, segment } = status.archive!.sent;
  say(
    `7. ${archive} has all of it: the snapshot in ${counted(piece.objects, "piece")}, the stream in ${counted(segment.objects, "segment")}, ${formatBytes(piece.bytes + segment.bytes)} compressed.`,
  );
}

interface Restored {
  readonly dir: string;
  readonly archive: string;
  readonly target: string;
  readonly say: Stage["say"];
}

/** Removes the data directory, restores from the archive alone, and compares. Returns the exit code. */
async function showRestore(
  context: CommandContext,
  { dir, archive, target, say }: Restored,
): Promise<number> {
  const kept = digestOf(join(dir, "current"));
  fs.rmSync(dir, { recursive: true });
  say(`8. The data directory is removed. replica restore ${archive} ${target}:`);
  const args = [archive, target];
  const exitCode = await restore({ ...context, args, options: new Map() });
  if (exitCode !== 0) return exitCode;
  const found = digestOf(join(target, APPEND_DIR));
  if (found !== kept) {
    throw new ReplicaError("ARCHIVE_DAMAGED", {
      message: `what was restored into ${target} is not what the data directory held`,
    });
  }
  say("   Snapshot and stream are the same, byte for byte (SHA-256).");
  return 0;
}

/** A word as a shell takes it. */
function shellWord(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** SHA-256 of the snapshot and the log in a folder that a server starts from. */
function digestOf(folder: string): string {
  const hash = new Bun.CryptoHasher("sha256");
  const files = fs.readdirSync(folder).filter((name) => /\.(?:rdb|aof)$/.test(name));
  for (const name of files.toSorted()) hash.update(fs.readFileSync(join(folder, name)));
  return hash.digest("hex");
}

/** A directory of the demo's own: it must not touch what a real replica keeps. */
function demoDir(settings: Settings): string {
  if (settings.dir === DEFAULT_DIR) return fs.mkdtempSync(join(tmpdir(), "replica-demo-"));
  const dir = resolve(settings.dir);
  if (fs.existsSync(dir) && fs.readdirSync(dir).length > 0) {
    throw usageError(`${dir} is not empty: the demo needs a new or empty --dir`);
  }
  return dir;
}
