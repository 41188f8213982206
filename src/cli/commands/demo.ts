import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { realClock } from "../../base/clock.ts";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { formatBytes } from "../../base/quantity.ts";
import { parsePrimaryUrl } from "../../config/primary-url.ts";
import type { Settings } from "../../config/settings.ts";
import { VERSION } from "../../base/version.ts";
import { EmbeddedPrimary } from "../../demo/primary.ts";
import { assemble } from "../../program/assemble.ts";
import type { Replica } from "../../replica/replica.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { backup } from "../../upstream/backup.ts";
import type { CommandContext } from "./command.ts";
import { watchTransfer } from "./watch-transfer.ts";

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
  readonly settings: Settings;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
  /** Waits until a condition holds. @throws ReplicaError TIMED_OUT, STOPPED, or what the replica failed with. */
  readonly until: (what: string, holds: () => boolean) => Promise<void>;
}

/**
 * `replica demo`: runs the real replica against an embedded primary with made-up data and live writes,
 * through a full resync, the live stream, a partial resync, a backup and a clean stop.
 */
export async function demo(context: CommandContext): Promise<number> {
  const { signal, stdout, stderr } = context;
  const dir = demoDir(context.settings);
  const settings: Settings = { ...context.settings, dir, port: 0, fsync: "everysec" };
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
  const { replica, port, run } = assemble(target, realDisk, realClock, settings, VERSION);
  const stop = new AbortController();
  const stopWatching = watchTransfer(() => replica.state, stderr, settings.progress);
  const running = run(AbortSignal.any([signal, stop.signal]));
  const until = waitingBeside(running, signal);
  try {
    say(
      `1. An embedded primary at ${primary.url} holds ${KEYS} made-up keys and takes ${WRITES_PER_SECOND} writes per second.`,
    );
    say(`   The replica follows it into ${dir} and answers redis-cli on port ${port.port}.`);
    const stage: Stage = { primary, replica, settings, signal, say, until };
    await showFullResync(stage);
    await showStream(stage);
    await showPartialResync(stage);
    await showBackup(stage);
    await showLastByte(stage);
  } finally {
    stop.abort();
    stopWatching();
    await running.catch(() => undefined);
    primary.stop();
  }
  listFiles(dir, say);
  return 0;
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
  const out = join(settings.dir, "demo-backup.rdb");
  const { rdb, seconds } = await backup(
    parsePrimaryUrl(primary.url),
    out,
    { disk: realDisk, clock: realClock, settings },
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

function listFiles(dir: string, say: Stage["say"]): void {
  say("The files, from which a stock redis-server 7 starts:");
  const current = join(dir, "current");
  for (const name of fs.readdirSync(current).sort()) {
    say(`   ${join(current, name)}  ${formatBytes(fs.statSync(join(current, name)).size)}`);
  }
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
