import { expect, test } from "bun:test";
import { realClock } from "../../../src/base/clock.ts";
import { deliver } from "../../../src/inspect/deliver/deliver.ts";
import type { DeliveredEntry } from "../../../src/inspect/deliver/entry.ts";
import { Survey } from "../../../src/inspect/deliver/survey.ts";
import type { Effect, Plan } from "../../support/fault-plan.ts";
import { startFaultProxy } from "../../support/fault-proxy.ts";
import { fakeSentinel, named, sentinelUrl } from "../../support/fake-sentinel.ts";
import { Random } from "../../support/fill.ts";
import { startServer } from "../../support/servers.ts";
import { amount, seedOf } from "../../support/sweep.ts";
import { until } from "../../support/wait.ts";
import { bring, openTarget, streamOf, stringEntries, stringEntry } from "./rig.ts";

const TIME_LIMIT_MS = 300_000;
const never = new AbortController().signal;
const EFFECTS: readonly Effect[] = [{ kind: "reset" }, { kind: "half-close" }];

/** Connections that each break after a random number of bytes, either way, and then sound ones. */
function breakPlans(count: number, mostBytes: number, random: Random): Plan[] {
  return Array.from({ length: count }, () => {
    const direction = random.below(2) === 0 ? "to-primary" : "to-replica";
    // Answers are short.
    const most = direction === "to-primary" ? mostBytes : mostBytes / 20;
    const effect = EFFECTS[random.below(EFFECTS.length)]!;
    return [{ direction, afterBytes: random.below(most), effect }];
  });
}

/** The same keys, of which a third is there before, with other values. */
async function withExisting(entries: readonly DeliveredEntry[], seed: number) {
  const server = await startServer("redis-7.0");
  const random = new Random(seed);
  const existing = entries.filter(() => random.below(3) === 0);
  await server.sendAll(existing.map(({ key }) => ["SET", key, "theirs"]));
  return { server, existing };
}

test(
  "counts each key once, however often the link breaks, and at whichever byte",
  async () => {
    const random = new Random(seedOf("BROKEN_DELIVERY_SEED"));
    const entries = stringEntries(2_000, 100);
    await using proxy = startFaultProxy();
    for (let round = amount("BROKEN_DELIVERIES", { sample: 6, full: 100 }); round > 0; round--) {
      const { server, existing } = await withExisting(entries, random.below(1_000_000));
      await using target = server;
      const route = await proxy.route(target.port);
      const replace = random.below(2) === 0;
      // The first connection gets through the questions.
      const [first, ...others] = breakPlans(4, 200_000, random);
      const { direction, afterBytes, effect } = first![0]!;
      await route.plan([[{ direction, afterBytes: 10_000 + afterBytes, effect }], ...others]);
      const {
        counts,
        error,
        told,
        breaks: seen,
      } = await bring(entries, `redis://127.0.0.1:${route.port}`, {
        replace,
      });
      expect(error).toBeUndefined();
      expect(seen).toBeGreaterThan(0);
      const kept = replace ? 0 : existing.length;
      expect(counts).toEqual({
        restored: entries.length - existing.length,
        replaced: existing.length - kept,
        existed: kept,
        expired: 0,
        failed: 0,
        left: 0,
      });
      expect(told.existed).toHaveLength(kept);
      const values = await target.sendAll(entries.map(({ key }) => ["GET", key]));
      expect(values.filter((value) => value === "theirs")).toHaveLength(kept);
      expect(values.filter((value) => value === null)).toHaveLength(0);
    }
  },
  TIME_LIMIT_MS,
);

test(
  "a key that wasn't sent, because the link had broken before, and that somebody else makes, existed",
  async () => {
    await using server = await startServer("redis-7.0");
    const entries = [stringEntry("a", "ours")];
    using target = await openTarget(server.url());
    const { routes } = target;
    const ways = routes.ways.bind(routes);
    let asked = 0;
    // The first way is for EXISTS; the second one breaks while another node's is opened, as in a cluster.
    routes.ways = async (parcels, signal) => {
      const found = await ways(parcels, signal);
      if (++asked !== 2) return found;
      await server.send("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      const isBroken = () => found.every((way) => "link" in way && way.link.isBroken);
      await until(isBroken, { what: "the link to break" });
      await server.send("SET", "a", "theirs");
      return found;
    };
    const clock = { ...realClock, sleep: async () => undefined };
    const { counts } = await deliver(streamOf(entries), {
      target,
      survey: await Survey.of(streamOf(entries), never),
      replace: false,
      clock,
      signal: never,
      timeoutMs: 20_000,
      retryMaxMs: 200,
      maxLeftTold: Infinity,
      onKey: () => undefined,
      onProgress: () => undefined,
      onTrouble: () => undefined,
    });
    expect(counts).toMatchObject({ restored: 0, existed: 1 });
    expect(await server.send("GET", "a")).toBe("theirs");
  },
  TIME_LIMIT_MS,
);

test(
  "counts as left what is unanswered when it is stopped, and says that it may be there",
  async () => {
    await using target = await startServer("redis-7.0");
    await using proxy = startFaultProxy();
    const route = await proxy.route(target.port);
    const entries = stringEntries(100);
    const stopping = new AbortController();
    // What comes back for the first batch's RESTOREs gets lost.
    const effect = { kind: "black-hole" } as const;
    await route.plan([[{ direction: "to-replica", afterBytes: 100_000, effect }]]);
    const large = stringEntries(20, 3 * 1024 * 1024).map((entry, at) => ({
      ...entry,
      key: Buffer.from(`large:${at}`),
    }));
    const brought = bring([...entries, ...large], `redis://127.0.0.1:${route.port}`, {
      signal: stopping.signal,
      onSettled: (count) => {
        if (count !== entries.length) return;
        void route.inject("to-replica", effect).then(() => stopping.abort());
      },
    });
    const { counts, error, uncertain, told } = await brought;
    expect(error).toMatchObject({ code: "STOPPED" });
    expect(counts.restored + counts.left).toBe(entries.length + large.length);
    expect(counts.left).toBeGreaterThan(0);
    expect(told.left.length).toBeGreaterThan(0);
    expect(uncertain).toBeLessThanOrEqual(counts.left);
  },
  TIME_LIMIT_MS,
);

test(
  "asks the sentinel anew where the primary has become a replica, and goes on at the new one",
  async () => {
    await using first = await startServer("redis-7.0");
    await using second = await startServer("redis-7.0");
    let primary = first;
    await using sentinel = fakeSentinel(() => named(primary.port));
    const entries = stringEntries(20_000);
    let failedOver: Promise<unknown> | undefined;
    const failOver = async () => {
      primary = second;
      await first.send("REPLICAOF", "127.0.0.1", second.port);
    };
    const { counts, error, troubles, breaks } = await bring(entries, sentinelUrl([sentinel]), {
      onSettled: (count) => {
        if (count === 2_048) failedOver = failOver();
      },
    });
    await failedOver;
    expect(error).toBeUndefined();
    expect(counts).toMatchObject({ restored: 20_000, left: 0 });
    expect(troubles[0]).toContain("READONLY");
    expect(breaks).toBe(1);
    // What was acknowledged before stayed at the first one: nothing copied it here.
    expect(await second.send("EXISTS", "key:0", "key:19999")).toBe(1);
  },
  TIME_LIMIT_MS,
);
