import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { parseSegmentName } from "../../src/archive/format/names.ts";
import { APPEND_DIR } from "../../src/store/restore/restore.ts";
import { ACCESS_KEY, FaultS3, type S3Effect, SECRET_KEY } from "../support/fault-s3.ts";
import { Random } from "../support/fill.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { bootCopy, type RealServer, startServer } from "../support/servers.ts";
import { amount, IS_FULL } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { PATIENCE_MS, until } from "../support/wait.ts";

const MIB = 1024 * 1024;
/** How long the store is away: `ARCHIVE_AWAY_SECONDS=120 bun test test/faults/archive-away.test.ts`. */
const AWAY_SECONDS = amount("ARCHIVE_AWAY_SECONDS", { sample: 3, full: 8 });
const AWAY_RATE_BYTES = amount("ARCHIVE_AWAY_RATE", { sample: 5 * MIB, full: 10 * MIB });
/** How long the log is archived with everything well: `ARCHIVE_LAG_SECONDS=30` also holds the lag to its limit. */
const LAG_SECONDS = amount("ARCHIVE_LAG_SECONDS", { sample: 2, full: 8 });
/** Only a machine that does nothing else keeps to a time, and to this rate. */
const IS_QUIET = process.env["ARCHIVE_LAG_SECONDS"] !== undefined;
const LAG_RATE_BYTES = amount(
  "ARCHIVE_LAG_RATE",
  IS_QUIET ? { sample: 50e6, full: 50e6 } : { sample: 5e6, full: 10e6 },
);
const MOST_RSS_BYTES = 160 * MIB;
const KIND = "redis-7.0";
const VALUE_BYTES = 64 * 1024;
const KEYS = 200;
const POOL = 64;
const TICK_MS = 50;

setDefaultTimeout(3 * PATIENCE_MS + (AWAY_SECONDS + LAG_SECONDS) * 4_000);

const dir = tempDir("archive-away");
const env = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
let bucket: FaultS3;

beforeAll(async () => {
  bucket = await FaultS3.start();
});
afterAll(async () => {
  await bucket.stop();
  dir.remove();
});

/** Copies a value of the pool to so many keys, on the server: what the primary sends are SETs. */
const WRITES = `for i = 1, ARGV[1] do
  local value = redis.call("GET", "pool:" .. math.random(${POOL}))
  redis.call("SET", "key:" .. math.random(${KEYS}), value)
end`;

/** Overwrites a small data set with large values of text, at a steady rate; it takes the test's process little. */
class LargeWrites implements AsyncDisposable {
  bytes = 0;
  #isStopped = false;
  readonly #running: Promise<void>;

  constructor(primary: RealServer, bytesPerSecond: number, repeats: boolean) {
    this.#running = this.#write(primary, bytesPerSecond, repeats);
    this.#running.catch(() => undefined);
  }

  async #write(primary: RealServer, bytesPerSecond: number, repeats: boolean): Promise<void> {
    await using client = await primary.connect();
    const random = new Random(5);
    // What repeats within a value compresses well, and takes the store of the test little memory.
    const value = repeats
      ? () => random.text(512).repeat(VALUE_BYTES / 512)
      : () => random.text(VALUE_BYTES);
    for (let n = 1; n <= POOL; n++) await client.send("SET", `pool:${n}`, value());
    let lastMs = performance.now();
    while (!this.#isStopped) {
      const nowMs = performance.now();
      const due = this.bytes + (Math.min(nowMs - lastMs, 500) / 1000) * bytesPerSecond;
      lastMs = nowMs;
      const count = Math.ceil((due - this.bytes) / VALUE_BYTES);
      this.bytes += count * VALUE_BYTES;
      await client.send("EVAL", WRITES, 0, count);
      await Bun.sleep(TICK_MS);
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    await this.#running.catch(() => undefined);
  }
}

const inMib = (bytes: number) => `${(bytes / MIB).toFixed(0)} MiB`;

/** The farthest end among the names of segments. */
function farthest(names: Iterable<string>): number {
  let end = 0;
  for (const name of names)
    end = Math.max(end, parseSegmentName(name.slice(name.lastIndexOf("/") + 1))?.to ?? 0);
  return end;
}

const AWAY: readonly [string, S3Effect][] = [
  ["answers 503", { kind: "error", status: 503, code: "SlowDown" }],
  ["hangs", { kind: "hang", at: "request" }],
];

// A request that hangs takes 30 s to be given up.
test.each(IS_FULL ? AWAY : AWAY.slice(0, 1))(
  `a store that %s for ${AWAY_SECONDS} s under load holds up neither the stream nor its ACKs, and has all of it in the end`,
  async (name, effect) => {
    const key = await generateX25519Identity();
    const identity = dir.file("identity.txt");
    fs.writeFileSync(identity, `${key}\n`);
    const prefix = name.replaceAll(" ", "-");
    const url = `s3://${bucket.bucket}/${prefix}`;
    const at = ["--archive-endpoint", bucket.endpoint];
    await using primary = await startServer(KIND, { args: ["--repl-backlog-size", "64mb"] });
    await using writes = new LargeWrites(primary, AWAY_RATE_BYTES, true);
    const args = ["follow", primary.url(), "--dir", dir.file(prefix), "--port", "0"];
    const archived = ["--archive", url, ...at, "--archive-every", "1s", "--ack", "durable"];
    const recipient = ["--archive-recipient", await identityToRecipient(key)];
    await using replica = startReplica([...args, ...archived, ...recipient], { env });
    const ends = () => farthest([...bucket.objects.keys()].filter((one) => one.includes(prefix)));
    await until(() => ends() > 0, { what: "the log in the archive" });
    // What an archiver takes while all is well is the measure.
    const begin = writes.bytes;
    await until(() => writes.bytes > begin + 24 * MIB, { what: "some of the stream" });
    const wellBytes = replica.rssPeakBytes();
    bucket.fail({ within: `${prefix}/`, times: Infinity, effect });
    const endMs = performance.now() + AWAY_SECONDS * 1_000;
    let slowestMs = 0;
    while (performance.now() < endMs) {
      const askedMs = performance.now();
      await primary.acknowledgedBy(1);
      slowestMs = Math.max(slowestMs, performance.now() - askedMs);
    }
    const awayBytes = replica.rssPeakBytes();
    expect(replica.stderr.match(/gets nothing at present/g) ?? []).toHaveLength(
      effect.kind === "hang" && AWAY_SECONDS < 150 ? 0 : 1,
    );
    expect(replica.stderr.match(/connected by/g)).toHaveLength(1);
    bucket.heal();
    await writes.stop();
    await primary.acknowledgedBy(1);
    const end = await primary.offset();
    await until(() => ends() >= end, { what: `offset ${end} in the archive` });
    const peakBytes = replica.rssPeakBytes();
    console.log(
      `${name}: ${inMib(writes.bytes)} written, slowest ACK ${slowestMs.toFixed(0)} ms; most memory: well ${inMib(wellBytes)}, away ${inMib(awayBytes)}, in all ${inMib(peakBytes)}`,
    );
    expect(peakBytes).toBeLessThanOrEqual(MOST_RSS_BYTES);
    expect((await replica.stop()).exitCode).toBe(0);
    const reading = [...at, "--archive-identity", identity];
    const checked = await runReplica(["verify", url, ...reading], { env });
    expect([checked.exitCode, checked.stdout]).toEqual([0, expect.stringContaining("no damage")]);
    const target = dir.file(`target-${prefix}`);
    expect((await runReplica(["restore", url, target, ...reading], { env })).exitCode).toBe(0);
    await using copy = await bootCopy(KIND, `${target}/${APPEND_DIR}`);
    expect(await copy.digest()).toBe(await primary.digest());
  },
);

test("with everything well, all is archived; on a quiet machine it lags by --archive-every and 2 s at most", async () => {
  const everyMs = 1_000;
  const folder = dir.file("lag");
  await using primary = await startServer(KIND, { args: ["--repl-backlog-size", "64mb"] });
  const args = ["follow", primary.url(), "--dir", dir.file("lag-data"), "--port", "0"];
  const archived = ["--archive", `file://${folder}`, "--archive-every", `${everyMs}ms`];
  await using replica = startReplica([...args, ...archived]);
  await replica.waitForLine(/connected by full resync/);
  await using writes = new LargeWrites(primary, LAG_RATE_BYTES, false);
  /** When the primary was at which offset. */
  const moments: { ms: number; offset: number }[] = [];
  const lags: number[] = [];
  const logs = () =>
    fs.existsSync(`${folder}/generations`)
      ? fs.readdirSync(`${folder}/generations`, { recursive: true, encoding: "utf8" })
      : [];
  const beganMs = performance.now();
  while (performance.now() - beganMs < LAG_SECONDS * 1_000) {
    moments.push({ ms: performance.now(), offset: await primary.offset() });
    const end = farthest(logs());
    // The last moment at which all that there was is archived now.
    const known = moments.findLast(({ offset }) => offset <= end);
    if (known !== undefined && end > 0) lags.push(performance.now() - known.ms);
    await Bun.sleep(TICK_MS);
  }
  const rate = writes.bytes / LAG_SECONDS;
  await writes.stop();
  await primary.acknowledgedBy(1);
  const end = await primary.offset();
  await until(() => farthest(logs()) >= end, { what: `offset ${end} in the archive` });
  lags.sort((a, b) => a - b);
  const [middle = NaN, most = NaN] = [lags[lags.length >> 1], lags.at(-1)];
  console.log(
    `${(rate / 1e6).toFixed(1)} MB/s: lag ${middle.toFixed(0)} ms, at most ${most.toFixed(0)} ms; most memory ${inMib(replica.rssPeakBytes())}`,
  );
  if (IS_QUIET) expect(most).toBeLessThan(everyMs + 2_000);
  expect(replica.stderr).not.toMatch(/ (?:warn|error) {1,2}/);
  expect(replica.rssPeakBytes()).toBeLessThanOrEqual(MOST_RSS_BYTES);
});
