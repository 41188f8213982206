import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Settings } from "../../config/settings.ts";
import { EmbeddedPrimary } from "../../demo/primary.ts";
import { ReplicaError } from "../../base/errors.ts";
import { parsePrimaryUrl } from "../../config/primary-url.ts";
import { formatBytes } from "../../base/quantity.ts";
import { backup } from "../../upstream/backup.ts";
import { realClock } from "../../base/clock.ts";
import { assemble } from "../../program/assemble.ts";
import type { Replica } from "../../replica/replica.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { VERSION } from "../../base/version.ts";
import type { CommandContext } from "./command.ts";
import { watchTransfer } from "./watch-transfer.ts";

const KEYS = 300_000;
const VALUE_BYTES = 256;
const WRITES_PER_SECOND = 5_000;
const STREAM_MS = 2_000;
const STEP_LIMIT_MS = 15_000;
const DEFAULT_DIR = "./replica-data";

/**
 * `replica demo`: an embedded primary with made-up data and live writes, and the real replica
 * behind it: a full resync, the live stream with its acknowledgements, a broken link and its
 * partial resync, a backup, a clean stop.
 */
export async function demo({ settings, signal, stdout, stderr }: CommandContext): Promise<number> {
  const dir = demoDir(settings);
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
  const demoSettings: Settings = { ...settings, dir, port: 0, fsync: "everysec" };
  const { replica, port, run } = assemble(target, realDisk, realClock, demoSettings, VERSION);
  const stop = new AbortController();
  const stopping = AbortSignal.any([signal, stop.signal]);
  const stopWatching = watchTransfer(() => replica.state, stderr, settings.progress);
  const running = run(stopping);
  let failure: unknown;
  running.catch((error: unknown) => {
    failure = error;
  });
  const until = async (what: string, holds: () => boolean) => {
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
  try {
    say(
      `1. An embedded primary at ${primary.url} holds ${KEYS} made-up keys and takes ${WRITES_PER_SECOND} writes a second.`,
    );
    say(`   The replica follows it into ${dir}, and answers redis-cli at port ${port.port}.`);
    await until("the full resync", () => replica.state.at === "connected");
    say(`2. Full resync ($EOF form): ${describeGeneration(replica)}.`);
    await realClock.sleep(STREAM_MS, signal);
    await until("an acknowledgement", () => (primary.acks()[0]?.fack ?? 0) > 0);
    const [ack] = primary.acks();
    say(
      `3. Live stream: the primary stands at offset ${primary.masterReplOffset}; it was told that ${ack?.ack} is written and ${ack?.fack} durable.`,
    );
    primary.dropReplicas();
    await until(
      "the partial resync",
      () => replica.syncs.partial === 1 && replica.state.at === "connected",
    );
    say(`4. The link was cut: resumed by partial resync, nothing was sent twice.`);
    primary.payloadForm = "length";
    const out = join(dir, "demo-backup.rdb");
    const { rdb, seconds } = await backup(
      target,
      out,
      { disk: realDisk, clock: realClock, settings: demoSettings },
      signal,
      () => undefined,
    );
    say(
      `5. Backup ($<length> form): ${formatBytes(rdb.bytes)} in ${seconds.toFixed(2)} s, the checksum holds: ${out}`,
    );
    primary.pauseWrites();
    await until("the last byte", () => replica.log?.durableOffset === primary.masterReplOffset);
    say(
      `6. The writes stopped: all ${primary.masterReplOffset} bytes of the primary's history are durable here.`,
    );
  } finally {
    stop.abort();
    stopWatching();
    await running.catch(() => undefined);
    primary.stop();
  }
  say(`The files, from which a stock redis-server 7 starts:`);
  const current = join(dir, "current");
  for (const name of fs.readdirSync(current).sort()) {
    say(`   ${join(current, name)}  ${formatBytes(fs.statSync(join(current, name)).size)}`);
  }
  return 0;
}

/** A folder of its own: a demo must not touch what a real replica keeps. */
function demoDir(settings: Settings): string {
  if (settings.dir === DEFAULT_DIR) return fs.mkdtempSync(join(tmpdir(), "replica-demo-"));
  const dir = resolve(settings.dir);
  if (fs.existsSync(dir) && fs.readdirSync(dir).length > 0) {
    throw new ReplicaError("USAGE", {
      message: `${dir} is not empty: the demo wants a new or an empty --dir`,
    });
  }
  return dir;
}

function describeGeneration(replica: Replica): string {
  const generation = replica.directory.current;
  if (generation === undefined) return "nothing was kept";
  return `a snapshot of ${formatBytes(generation.rdbBytes)}, its checksum ${generation.rdbCrc64} verified, synced to disk`;
}
