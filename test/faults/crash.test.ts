import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseInfo } from "../../src/resp/info-text.ts";
import { Random, fillAllTypes } from "../support/fill.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { bootCopy, startServer } from "../support/servers.ts";
import { amount, seedOf } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import {
  type Aim,
  counted,
  keepsSomethingWhole,
  type Phase,
  phaseOf,
  soon,
  waitFor,
} from "./kill-aims.ts";
import { SeededLoad } from "./seeded-load.ts";

/** More kills: `CRASH_KILLS=1000 bun test test/faults/crash.test.ts`. */
const KILLS = amount("CRASH_KILLS", { sample: 6, full: 50 });
/** A kill is aimed at a phase but may miss it. With so many kills, each phase is hit. */
const KILLS_FOR_ALL_PHASES = 50;
/** Those amid renewals: `RENEWAL_KILLS=1000 bun test test/faults/crash.test.ts -t renewals`. */
const RENEWAL_KILLS = amount("RENEWAL_KILLS", { sample: 4, full: 60 });
const SEED = seedOf("CRASH_SEED");

interface Round {
  readonly aim: Aim;
  /** Removes the folder first, so that there is nothing to resume from. */
  readonly fromNothing: boolean;
  readonly diskless: boolean;
}

/**
 * Plans full resyncs and resumes mixed, and for the last two fifths resumes alone: the log compared at the
 * end has gone through all of these.
 */
function plan(kills: number, random: Random): Round[] {
  const aimsFromNothing: readonly Aim[] = [
    "payload",
    "finishing",
    "handshake",
    "stream",
    "payload",
    "finishing",
  ];
  const aimsOfResume: readonly Aim[] = ["stream", "handshake", "stream", "anywhere"];
  return Array.from({ length: kills }, (_, i) => {
    const third = Math.floor(i / 3);
    const fromNothing = i < kills * 0.6 && i % 3 !== 2;
    const aims = fromNothing ? aimsFromNothing : aimsOfResume;
    // The first kills aim at each phase in turn, so that even a short run covers all of them.
    const turn = fromNothing ? i - third : third;
    const aim = aims[i < 18 ? turn % aims.length : random.below(aims.length)]!;
    return { aim, fromNothing, diskless: random.below(2) === 0 };
  });
}

test(
  `after each of ${KILLS} kills at random moments under load, it asks for no more than it needs`,
  async () => {
    const random = new Random(SEED);
    await using server = await startServer("redis-7.0", {
      args: ["--repl-backlog-size", "256mb", "--rdbcompression", "no"],
    });
    await fillAllTypes(server, { keys: 2_000, databases: [0, 3, 9], seed: SEED });
    // Enough bytes for a slow payload.
    await server.send("DEBUG", "POPULATE", 150, "large", 200_000);
    using folder = tempDir("crash");
    const dir = folder.file("data");
    const args = ["follow", server.url(), "--dir", dir, "--port", "0", "--retry-max", "100ms"];
    await using load = await SeededLoad.start(server, SEED);

    /** Waits until only the test is connected: then the primary has counted all requests. */
    const alone = async (): Promise<void> => {
      await until(
        async () => {
          const { connected_clients, connected_slaves } = await server.info("all");
          return connected_clients === "2" && connected_slaves === "0";
        },
        { what: "the primary to have forgotten the killed replica" },
      );
    };

    const hits = new Map<Phase, number>();
    const first = await counted(server);
    let granted = 0;
    let resumed = 0;
    for (const [i, { aim, fromNothing, diskless }] of plan(KILLS, random).entries()) {
      if (fromNothing) rmSync(dir, { recursive: true, force: true });
      await server.sendAll([
        ["CONFIG", "SET", "repl-diskless-sync", diskless ? "yes" : "no"],
        ["CONFIG", "SET", "rdb-key-save-delay", diskless ? 1 : 0],
      ]);
      const before = await counted(server);
      const kept = keepsSomethingWhole(dir);
      // An aim at a full resync would never be met if there is none.
      const possible = kept && (aim === "payload" || aim === "finishing") ? "stream" : aim;
      await using replica = startReplica(args);
      await waitFor(possible, replica, server, dir, before, random);
      const shown = () => `kill ${i + 1} at ${possible}, kept: ${kept}\n${replica.output()}`;
      expect(replica.isRunning, shown()).toBe(true);
      expect(await replica.kill9()).toEqual({ exitCode: null, signal: "SIGKILL" });
      await alone();
      const after = await counted(server);
      const phase = phaseOf(replica, dir, before, after);
      hits.set(phase, (hits.get(phase) ?? 0) + 1);

      const full = after.full - before.full;
      const partial = after.partial - before.partial;
      expect(after.refused, shown()).toBe(0);
      if (kept) expect(full, shown()).toBe(0);
      else expect(partial, shown()).toBe(0);
      // One request, one grant: no second attempt has hidden a failure.
      expect(full + partial, shown()).toBe(phase === "handshake" || phase === "start" ? 0 : 1);
      if (kept) expect(keepsSomethingWhole(dir), shown()).toBe(true);
      if (phase === "stream") expect(keepsSomethingWhole(dir), shown()).toBe(true);
      granted += full;
      resumed += partial;
    }
    console.log(
      `${[...hits].map(([phase, count]) => `${phase}: ${count}`).join(", ")}; ${granted} full syncs, ${resumed} partial, ${load.commands} commands`,
    );
    for (const phase of ["handshake", "payload", "finishing", "stream"] as const) {
      if (KILLS < KILLS_FOR_ALL_PHASES) break;
      expect(hits.get(phase) ?? 0, `kills in ${phase}`).toBeGreaterThan(0);
    }

    const last = await counted(server);
    expect(last.full - first.full).toBe(granted);
    expect(last.partial - first.partial).toBe(resumed);
    // The last kills of a few may all have come before anything was kept.
    const isKept = keepsSomethingWhole(dir);
    await using replica = startReplica(args);
    await replica.waitForLine(isKept ? /connected by partial resync/ : /connected by full resync/);
    await load.stop();
    const end = await server.offset();
    await until(
      async () => {
        const { slave0 } = await server.info("replication");
        return Number(/offset=(\d+)/.exec(slave0 ?? "")?.[1]) >= end;
      },
      { what: `the primary to see offset ${end} acknowledged` },
    );
    expect((await counted(server)).partial).toBe(last.partial + (isKept ? 1 : 0));
    expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
    await using copy = await bootCopy("redis-7.0", join(dir, "current"));
    expect(await copy.digest()).toBe(await server.digest());
  },
  60_000 + KILLS * 10_000,
);

/** What the next start will find durable: how many generations are kept, and how far the current one goes. */
function durableIn(dir: string): { generations: number; durableOffset: number } {
  const db = new Database(join(dir, "replica.db"), { readonly: true });
  try {
    return db
      .query<{ generations: number; durableOffset: number }, []>(
        `SELECT (SELECT count(*) FROM generations WHERE state <> 'receiving') AS generations,
           max(durable_offset) AS durableOffset
         FROM marks JOIN generations ON generations.id = marks.generation WHERE state = 'current'`,
      )
      .get()!;
  } finally {
    db.close();
  }
}

test(
  `after each of ${RENEWAL_KILLS} kills amid renewals and removals, what was durable is there, and whole`,
  async () => {
    const random = new Random(SEED);
    await using server = await startServer("redis-7.0", {
      args: ["--repl-backlog-size", "256mb", "--repl-diskless-sync-delay", "0"],
    });
    await fillAllTypes(server, { keys: 2_000, databases: [0, 3, 9], seed: SEED });
    using folder = tempDir("renewal-kills");
    const dir = folder.file("data");
    const keeping = ["--snapshot-every", "1s", "--keep", "1", "--keep-for", "off"];
    const args = ["follow", server.url(), "--dir", dir, "--port", "0", "--retry-max", "100ms"];
    await using load = await SeededLoad.start(server, SEED);
    /** Where kills hit: after how many lines about a renewal. */
    let renewals = 0;
    let leastOffset = 0;
    for (let kill = 0; kill < RENEWAL_KILLS; kill++) {
      await using replica = startReplica([...args, ...keeping]);
      const [, port] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
      await replica.waitForLine(/connected by (?:full|partial) resync/);
      {
        await using client = await RespClient.connect({ port: Number(port) });
        const durable = async () => {
          const info = parseInfo(String(await client.send("INFO", "replica")));
          const offset = Number(info.get("durable_offset"));
          if (offset > leastOffset) leastOffset = offset;
        };
        const aim = [/new snapshot, asked for by/, /replaces generation/, /connected by/];
        const pattern = aim[kill % aim.length]!;
        await soon(`a line like ${pattern}`, async () => {
          await durable();
          return pattern.test(replica.stderr);
        });
        const untilMs = performance.now() + random.below(120);
        while (performance.now() < untilMs) await durable();
      }
      const shown = () => `kill ${kill + 1}\n${replica.output()}`;
      expect(replica.isRunning, shown()).toBe(true);
      await replica.kill9();
      renewals += replica.stderr.match(/replaces generation/g)?.length ?? 0;
      const { durableOffset } = durableIn(dir);
      expect(durableOffset, shown()).toBeGreaterThanOrEqual(leastOffset);
      if (kill % 20 > 0) continue;
      const { exitCode, stdout } = await runReplica(["verify", dir]);
      expect(exitCode, `${shown()}\n${stdout}`).toBe(0);
    }
    expect(renewals).toBeGreaterThan(0);
    await load.stop();
    // The generations that were left over are removed, and what is restored is what the primary has.
    await using replica = startReplica([...args, "--keep", "1", "--keep-for", "off"]);
    await replica.waitForLine(/connected by partial resync/);
    const end = await server.offset();
    const isDone = () => durableIn(dir).durableOffset >= end && durableIn(dir).generations <= 2;
    await until(isDone, { what: "all to be durable, and the old generations to be gone" }).catch(
      (error: unknown) => {
        const kept = JSON.stringify({ end, ...durableIn(dir) });
        throw new Error(`${String(error)}: ${kept}\n${replica.output()}`, { cause: error });
      },
    );
    expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
    expect((await server.info("stats"))["sync_partial_err"]).toBe("0");
    expect(readdirSync(join(dir, "generations")).length).toBeLessThanOrEqual(2);
    await using copy = await bootCopy("redis-7.0", join(dir, "current"));
    expect(await copy.digest()).toBe(await server.digest());
    console.log(`${renewals} renewals, ${load.commands} commands, offset ${end}`);
  },
  60_000 + RENEWAL_KILLS * 10_000,
);
