import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { ModelPrimary } from "../support/model-primary.ts";
import { startReplica } from "../support/replica-process.ts";
import { Downstream } from "../support/relaying.ts";
import { RespClient } from "../support/resp-client.ts";
import { amount } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { certificates } from "../support/tls.ts";
import { until } from "../support/wait.ts";

/** Longer runs: `LEAKS_TIMES=10 bun test test/faults/leaks.test.ts`. */
const TIMES = amount("LEAKS_TIMES", { sample: 0.1, full: 1 });
const RECONNECTS = Math.round(1_000 * TIMES);
const FULL_SYNCS = Math.round(100 * TIMES);
/** A short run has a short warm-up. */
const warmUp = (rounds: number) => Math.round(rounds * Math.min(1, 3 * TIMES));
const CLIENTS = 200;

setDefaultTimeout(600_000 * Math.max(1, TIMES));

const MIB = 1024 * 1024;
/** Allowed growth over the peak of the warm-up; far less than all snapshots of one test. */
const MEMORY_BYTES = 32 * MIB;
const SNAPSHOT_BYTES = 1 * MIB;

/** The open descriptors of a process; paths without the number of the generation. */
function openIn(pid: number | "self"): string[] {
  return readdirSync(`/proc/${pid}/fd`)
    .flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
      } catch {
        return []; // it was the listing's own, or is gone by now
      }
    })
    .map((what) => what.replace(/:\[\d+\]$/, "").replace(/\/\d{10}\/appendonly\.aof\.\d+\./, "/N/"))
    .toSorted();
}

/** Starts a replica process behind a model primary, and measures its descriptors and memory. */
async function measured({ tls = false } = {}) {
  const dir = tempDir("leaks");
  const primary = new ModelPrimary({ snapshotBytes: SNAPSHOT_BYTES, tls });
  let acked = 0;
  primary.onAcknowledged = ({ ack }) => (acked = ack);
  const flags = {
    dir: dir.file("data"),
    port: "0",
    "retry-max": "10ms",
    keep: "1",
    "keep-for": "off",
  };
  const given = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
  const http = ["--http", "127.0.0.1:0", "--min-free", "1MiB"];
  const trust = tls ? ["--tls-ca", certificates.ca] : [];
  const replica = startReplica(["follow", primary.url, ...given, ...http, ...trust]);
  const [, port] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
  const [, httpUrl] = await replica.waitForLine(/serving metrics and health at (\S+)/);
  /** Waits until it has acknowledged everything. */
  const settled = async () => {
    primary.write("REPLCONF", "GETACK", "*");
    await until(() => acked === primary.offset, { what: "all to be acknowledged" });
  };
  await settled();
  let before: { open: string[]; own: string[]; peakBytes: number } | undefined;
  return {
    primary,
    port: Number(port),
    httpUrl: httpUrl!,
    generations: dir.file("data", "generations"),
    settled,
    /** Call after the warm-up: `expectNoMore` compares with this state. */
    remember: async () => {
      await settled();
      // Wait for descriptors that are just being closed.
      let same = 0;
      let last = "";
      const isAtRest = () => {
        const open = openIn(replica.pid).join();
        same = open === last ? same + 1 : 0;
        last = open;
        return same === 10;
      };
      await until(isAtRest, { what: "nothing to be opened or closed", everyMs: 20 });
      before = {
        open: openIn(replica.pid),
        own: openIn("self"),
        peakBytes: replica.rssPeakBytes(),
      };
    },
    /** Waits until its descriptors are as before, and its memory is within the limit. */
    expectNoMore: async () => {
      await settled();
      const { open, own, peakBytes } = before!;
      const isSame = () => {
        expect(openIn(replica.pid)).toEqual(open);
        return true;
      };
      // The last link may be just closing, and the garbage collector runs at its own pace.
      await until(isSame, { what: "its descriptors to be those of before" });
      // Descriptors of earlier tests in this process may have been closed meanwhile.
      const noMore = () => openIn("self").length <= own.length;
      await until(noMore, { what: "our descriptors to be no more than before" });
      const grownBytes = () => replica.rssBytes() - peakBytes;
      await until(() => grownBytes() < MEMORY_BYTES, { what: "its memory to be that of before" });
      const [peak, grown] = [peakBytes, grownBytes()].map((bytes) => (bytes / MIB).toFixed(1));
      console.log(`${open.length} descriptors; a peak of ${peak} MiB before, ${grown} more now`);
    },
    [Symbol.asyncDispose]: async () => {
      const ended = await replica.stop();
      const { stderr } = replica;
      await replica[Symbol.asyncDispose]();
      await primary[Symbol.asyncDispose]();
      dir.remove();
      expect(ended).toEqual({ exitCode: 0, signal: null });
      expect(stderr).not.toMatch(/ error |unexpected/);
    },
  };
}

type Measured = Awaited<ReturnType<typeof measured>>;

test.each([
  ["without TLS", false],
  ["by TLS", true],
])(`after ${RECONNECTS} reconnects %s it holds no more than before`, async (_, tls) => {
  await using it = await measured({ tls });
  const { primary } = it;
  const reconnect = async (times: number) => {
    for (let left = times; left > 0; left--) {
      const { partial } = primary.counts;
      await primary.breakLinks();
      primary.write("SET", "key", left);
      await until(() => primary.counts.partial > partial, { what: "it to come back", everyMs: 1 });
    }
  };
  await reconnect(warmUp(100));
  await it.remember();
  await reconnect(RECONNECTS);
  await it.expectNoMore();
  expect(primary.counts.full).toBe(1);
});

test(`after ${FULL_SYNCS} full resyncs it holds no more than before`, async () => {
  await using it = await measured();
  const { primary } = it;
  const client = await RespClient.connect({ port: it.port });
  const resync = async (times: number) => {
    for (let left = times; left > 0; left--) {
      primary.forget();
      // No back-off, unlike after a break.
      await client.send("REPLICAOF", "NO", "ONE");
      await client.send("REPLICAOF", "127.0.0.1", primary.port);
      await it.settled();
    }
  };
  await resync(warmUp(30));
  await it.remember();
  await resync(FULL_SYNCS);
  await it.expectNoMore();
  expect(primary.counts).toEqual({ full: 1 + warmUp(30) + FULL_SYNCS, partial: 0 });
  await until(() => readdirSync(it.generations).length === 2, { what: "the old ones to go" });
  client.close();
});

test(`after ${FULL_SYNCS} full resyncs that broke off it holds no more than before`, async () => {
  await using it = await measured();
  const { primary } = it;
  /** Lets a snapshot break off `times` times, then be complete. */
  const fail = async (times: number) => {
    const wanted = primary.counts.full + times;
    primary.breaksPayloadAt = SNAPSHOT_BYTES / 2;
    primary.forget();
    await primary.breakLinks();
    await until(() => primary.counts.full >= wanted, {
      what: "its attempts",
      timeoutMs: 60_000 * Math.max(1, TIMES),
    });
    primary.breaksPayloadAt = undefined;
    await it.settled();
  };
  await fail(warmUp(30));
  await it.remember();
  await fail(FULL_SYNCS);
  await it.expectNoMore();
  await until(() => readdirSync(it.generations).length === 2, { what: "the old ones to go" });
});

/** Attaches a downstream until it has received `wantedBytes` bytes; returns what it received. */
async function fed(it: Measured, asks: (string | number)[], wantedBytes: number): Promise<string> {
  await using downstream = await Downstream.connect(it.port);
  await downstream.ask("REPLCONF", "capa", "psync2");
  downstream.say("PSYNC", ...asks);
  await until(() => downstream.came.length >= wantedBytes, { what: "all of it", everyMs: 1 });
  return downstream.came;
}

test(`after ${FULL_SYNCS} full and partial resyncs of downstreams it holds no more than before`, async () => {
  await using it = await measured();
  const { primary } = it;
  const feed = async (times: number) => {
    for (let left = times; left > 0; left--) {
      const full = await fed(it, ["?", -1], SNAPSHOT_BYTES);
      expect(full.slice(0, 60)).toStartWith(`+OK\r\n+FULLRESYNC ${primary.replid} `);
      const { offset } = primary;
      primary.write("SET", "key", left);
      await it.settled();
      const more = primary.streamFrom(offset).toString("latin1");
      const wanted = `+OK\r\n+CONTINUE ${primary.replid}\r\n${more}`;
      expect(await fed(it, [primary.replid, offset + 1], wanted.length)).toStartWith(wanted);
    }
  };
  await feed(warmUp(100));
  await it.remember();
  await feed(FULL_SYNCS);
  await it.expectNoMore();
});

test(`after ${CLIENTS} simultaneous clients, and as many HTTP requests, it holds no more than before`, async () => {
  await using it = await measured();
  const visit = async () => {
    const clients = Array.from({ length: CLIENTS }, () => RespClient.connect({ port: it.port }));
    const infos = await Promise.all(
      clients.map(async (connecting) => {
        const client = await connecting;
        const info = String(await client.send("INFO"));
        client.close();
        return info;
      }),
    );
    for (const info of infos) expect(info).toContain("role:slave");
    const pages = ["metrics", "readyz", "", "none"].map((page) => join(it.httpUrl, page));
    const statuses = await Promise.all(
      Array.from({ length: CLIENTS }, async (_, n) => {
        const headers = { connection: "close" };
        const response = await fetch(pages[n % pages.length]!, { headers });
        await response.text();
        return response.status;
      }),
    );
    expect(new Set(statuses)).toEqual(new Set([200, 404]));
  };
  for (let left = 5; left > 0; left--) await visit();
  await it.remember();
  for (let left = 5 * TIMES; left > 0; left--) await visit();
  await it.expectNoMore();
});
