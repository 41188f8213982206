import { afterEach, expect, test } from "bun:test";
import { realClock } from "../../src/base/clock.ts";
import { ReplicaError } from "../../src/base/errors.ts";
import { parseReplicationId } from "../../src/base/history.ts";
import { parsePrimaryUrl } from "../../src/config/primary-url.ts";
import type { Disk } from "../../src/store/disk/disk.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { DataDirectory } from "../../src/store/generation/data-directory.ts";
import { GenerationKeeper } from "../../src/upstream/keeper.ts";
import { Resyncs } from "../../src/upstream/resyncs.ts";
import { rdbOf } from "../store/rdb.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const REPLID = parseReplicationId("a".repeat(40));
const BASE_OFFSET = 1_000;
const PRIMARY = parsePrimaryUrl("redis://127.0.0.1:6379");
const RDB = rdbOf(1_500);
/** Many more than come while the snapshot is finished. */
const MOST_PIECES = 2_000;

let close: (() => Promise<void>) | undefined;
afterEach(async () => close?.());

/** A keeper with a snapshot of which all but the end has come, and the stream beside it. */
async function receiving(dir: TempDir, fsync: "always" | "everysec" | "no", disk: Disk = realDisk) {
  const directory = new DataDirectory(dir.file("data"), disk, realClock);
  const failures: ReplicaError[] = [];
  const acked: number[] = [];
  const silent = () => Promise.reject(new ReplicaError("TIMED_OUT", { message: "no answer" }));
  const resyncs = new Resyncs(realClock, directory, silent, { rdbFor: undefined });
  const keeper = new GenerationKeeper(
    directory,
    disk,
    realClock,
    {
      io: "buffered",
      rdbSyncBytes: 1_000_000,
      maxQueuedBytes: 2 ** 20,
      maxLogQueuedBytes: 2 ** 30,
      admit: async () => (bytes) => bytes,
      fsync,
      ack: "durable",
    },
    {
      acknowledge: (_, durable) => void acked.push(durable),
      hasRoom: () => undefined,
      failed: (error) => void failures.push(error),
    },
    { moved: () => undefined, endAll: () => undefined },
    resyncs,
  );
  close = async () => {
    await keeper.close();
    directory.close();
  };
  resyncs.begin(await keeper.resume(), PRIMARY);
  const grant = { by: "psync", position: { replid: REPLID, offset: BASE_OFFSET } } as const;
  const form = { kind: "length", bytes: RDB.length } as const;
  await keeper.open({ primary: PRIMARY, grant, form, beside: true });
  keeper.payload(RDB);
  await until(() => keeper.takesStream, { what: "a log for the stream" });
  return { keeper, directory, failures, acked };
}

test("a stream that never pauses doesn't keep a whole snapshot from becoming current", async () => {
  using dir = tempDir("stream-beside");
  // Each write takes longer than the next bytes do, as over a link that is faster than the disk.
  const disk = new FaultyDisk({ operation: "write", code: undefined, lateMs: 15, times: 1e9 });
  const { keeper, directory } = await receiving(dir, "everysec", disk);
  let isOver = false;
  let sent = 0;
  const piece = () => {
    keeper.stream(new Uint8Array(100_000).fill(1));
    sent += 100_000;
  };
  const finishing = keeper.finish().finally(() => (isOver = true));
  const pouring = (async () => {
    for (let pieces = 0; !isOver && pieces < MOST_PIECES; pieces++) {
      piece();
      await Bun.sleep(3);
    }
  })();
  const { receivedOffset } = await finishing;
  await pouring;
  expect(sent).toBeLessThan(MOST_PIECES * 100_000);
  expect(directory.current).toMatchObject({ baseOffset: BASE_OFFSET });
  await keeper.settle();
  expect(receivedOffset).toBeGreaterThanOrEqual(BASE_OFFSET);
  expect(keeper.log).toMatchObject({ durableOffset: BASE_OFFSET + sent });
}, 180_000);

test("with --fsync always, what came beside the snapshot is durable without another byte", async () => {
  using dir = tempDir("stream-beside");
  const { keeper } = await receiving(dir, "always");
  keeper.stream(new Uint8Array(500).fill(1));
  await keeper.finish();
  await until(() => keeper.log?.durableOffset === BASE_OFFSET + 500, { what: "a durable log" });
});

test("nothing is acknowledged before the snapshot is current", async () => {
  using dir = tempDir("stream-beside");
  const { keeper, acked, directory } = await receiving(dir, "everysec");
  keeper.stream(new Uint8Array(500).fill(1));
  keeper.acknowledge(BASE_OFFSET + 500);
  keeper.tick();
  await Bun.sleep(0);
  expect([acked, directory.current]).toEqual([[], undefined]);
  await keeper.finish();
  await keeper.settle();
  await until(() => acked.at(-1) === BASE_OFFSET + 500, { what: "an ACK" });
});

test("a sync of the stream that fails gives the snapshot up, and nothing of it counts", async () => {
  using dir = tempDir("stream-beside");
  const disk = new FaultyDisk();
  const { keeper, failures, directory } = await receiving(dir, "everysec", disk);
  keeper.stream(new Uint8Array(500).fill(1));
  disk.fail({ operation: "syncData", code: "EIO", call: 1 });
  keeper.tick();
  await until(() => failures.length > 0, { what: "the failure" });
  expect(failures[0]?.code).toBe("DISK_FAILED");
  keeper.discard();
  expect(await keeper.resume()).toBeUndefined();
  expect(directory.current).toBeUndefined();
});
