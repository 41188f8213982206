import { parseArgs } from "node:util";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { Encryption } from "../src/archive/format/encryption.ts";
import { realFolderDisk } from "../src/archive/store/folder-disk.ts";
import { openStore } from "../src/archive/store/open-store.ts";
import { Archiver } from "../src/archive/writer/archiver.ts";
import { DirectorySource } from "../src/archive/writer/directory-source.ts";
import { realClock } from "../src/base/clock.ts";
import { loadSettings } from "../src/config/load-settings.ts";
import { realDisk } from "../src/store/disk/disk.ts";
import { DataDirectory } from "../src/store/generation/data-directory.ts";
import { LedgerReader } from "../src/store/ledger/ledger-reader.ts";
import { MEGABYTE, SET_BYTES, setBlock } from "./blaster.ts";

/*
 * `bun bench/archiver-process.ts --dir DIR --archive URL [--codec none] [--encrypted] [--rate N --seconds N] [--no-archive]`:
 * archives a data directory until the archive has all of it; then, where that is asked for, again while its log grows at a
 * steady rate. Prints its measurements of the second part as JSON.
 */
const { values } = parseArgs({
  options: {
    dir: { type: "string", default: "" },
    archive: { type: "string", default: "" },
    codec: { type: "string", default: "zstd" },
    encrypted: { type: "boolean", default: false },
    rate: { type: "string", default: "0" },
    seconds: { type: "string", default: "0" },
    "no-archive": { type: "boolean", default: false },
  },
});
const EVERY_MS = 1_000;
const GROW_EVERY_MS = 20;
const LOOK_MS = 50;

const directory = new DataDirectory(values.dir, realDisk, realClock);
const ledger = new LedgerReader(`${values.dir}/replica.db`);
const encryption = values.encrypted
  ? new Encryption([await identityToRecipient(await generateX25519Identity())])
  : undefined;
const store = openStore(
  values.archive,
  {},
  {
    clock: realClock,
    disk: realFolderDisk,
    environment: process.env,
    credentials: () => Promise.reject(new Error("there are none")),
  },
);
const archiver = new Archiver({
  store,
  archive: values.archive,
  source: new DirectorySource(directory, ledger, realClock),
  disk: realDisk,
  clock: realClock,
  writer: { codec: values.codec === "none" ? "none" : "zstd", encryption },
  everyMs: EVERY_MS,
  program: "bench",
});
const log = await directory.openLog({
  fsync: loadSettings({ env: {} }).fsync,
  maxQueuedBytes: 512 * MEGABYTE,
  onMoved: () => archiver.moved(directory.durableOffset ?? 0),
  onFailed: (error) => {
    throw error;
  },
});
if (log === undefined) throw new Error("the data directory holds no generation");
const stop = new AbortController();
const running = values["no-archive"] ? Promise.resolve() : archiver.run(stop.signal);
let lagMostMs = 0;

/** Lets the log grow for as long as asked, in whole commands. It is synced once a second, as it is when it is followed. */
async function grow(rate: number, seconds: number): Promise<void> {
  const block = setBlock();
  const beganMs = performance.now();
  let written = 0;
  for (let nowMs = beganMs; nowMs < beganMs + seconds * 1_000; nowMs = performance.now()) {
    const due = ((nowMs - beganMs) / 1_000) * rate - written;
    for (let left = due; left > 0; left -= block.length) {
      const bytes = Math.min(block.length, Math.ceil(left / SET_BYTES) * SET_BYTES);
      log!.append(Uint8Array.from(block.subarray(0, bytes)));
      written += bytes;
    }
    await Bun.sleep(GROW_EVERY_MS);
  }
  await log!.sync();
}

/** Resolves once the archive lacks nothing. */
async function whole(): Promise<void> {
  for (;;) {
    const { lagBytes, lagBaseBytes, archivedOffset, error } = archiver.status();
    if (error !== undefined) throw error;
    if (archivedOffset !== undefined && lagBytes + lagBaseBytes === 0) return;
    await Bun.sleep(LOOK_MS);
  }
}

const isArchived = !values["no-archive"];
if (isArchived) await whole();
const look = setInterval(() => {
  lagMostMs = Math.max(lagMostMs, archiver.status().lagMs);
}, LOOK_MS);
const [usedBefore, grewMs] = [process.cpuUsage(), performance.now()];
await grow(Number(values.rate), Number(values.seconds));
const grownMs = performance.now();
if (isArchived) await whole();
clearInterval(look);
const { sent } = archiver.status();
const { user, system } = process.cpuUsage(usedBefore);
const cpuPercent = (user + system) / 10 / (performance.now() - grewMs);
const afterSeconds = (performance.now() - grownMs) / 1_000;
console.log(JSON.stringify({ afterSeconds, lagMostMs, cpuPercent, sent }));
stop.abort(new Error("it is archived"));
await running;
await log.close();
ledger[Symbol.dispose]();
directory.close();
