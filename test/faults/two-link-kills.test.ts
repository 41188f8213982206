import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fillAllTypes, Random } from "../support/fill.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import {
  availableServers,
  bootCopy,
  type RealServer,
  type ServerKind,
  startServer,
} from "../support/servers.ts";
import { amount, seedOf } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { TWO_LINKS } from "../support/two-links.ts";
import { until } from "../support/wait.ts";
import { type Aim, counted, keepsSomethingWhole, waitFor } from "./kill-aims.ts";
import { SeededLoad } from "./seeded-load.ts";

/** Of each kind of server; in a sweep 51 in all. */
const KILLS = amount("TWO_LINK_KILLS", { sample: 2, full: 17 });
const SEED = seedOf("TWO_LINK_SEED");
const KINDS = availableServers().filter((kind) => kind in TWO_LINKS);
const AIMS: readonly Aim[] = ["payload", "finishing", "stream", "handshake", "payload"];

interface Round {
  readonly aim: Aim;
  readonly victim: "replica" | "primary";
  readonly fromNothing: boolean;
  readonly diskless: boolean;
}

/** Each phase in turn, for both of them. */
function plan(random: Random): Round[] {
  return Array.from({ length: KILLS }, (_, i) => ({
    aim: AIMS[i % AIMS.length]!,
    victim: (i + Math.floor(i / AIMS.length)) % 2 === 0 ? "replica" : "primary",
    fromNothing: random.below(3) > 0,
    diskless: random.below(4) > 0,
  }));
}

async function startPrimary(kind: ServerKind): Promise<RealServer> {
  const server = await startServer(kind, {
    args: [...TWO_LINKS[kind]!, "--repl-backlog-size", "256mb", "--rdbcompression", "no"],
  });
  await fill(server);
  return server;
}

async function fill(server: RealServer): Promise<void> {
  await fillAllTypes(server, { keys: 1_000, databases: [0, 3, 9], seed: SEED });
  // By commands of the stream: a replica may have come back already.
  const value = "x".repeat(200_000);
  await server.sendAll(Array.from({ length: 50 }, (_, n) => ["SET", `large:${n}`, value]));
}

/** How often the link was up. */
function connections(replica: ReplicaProcess): number {
  return replica.stderr.match(/connected by (?:full|partial) resync/g)?.length ?? 0;
}

/** Waits until the primary sees all of its stream acknowledged, stops the replica, and compares the data. */
async function expectEqual(
  server: RealServer,
  replica: ReplicaProcess,
  dir: string,
): Promise<void> {
  await server.acknowledgedBy(1);
  expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
  await using copy = await bootCopy(server.kind, join(dir, "current"));
  expect(await copy.digest(), replica.output()).toBe(await server.digest());
}

test.each(KINDS)(
  `%s: after each of ${KILLS} kills of the replica or the primary, in any phase, all is there, and nothing is sent twice`,
  async (kind) => {
    const random = new Random(SEED);
    await using server = await startPrimary(kind);
    // One for each life of the primary: its streams' ids rise.
    let load = await SeededLoad.start(server, SEED);
    using folder = tempDir("two-link-kills");
    const dir = folder.file("data");
    const args = ["follow", server.url(), "--dir", dir, "--port", "0", "--retry-max", "100ms"];
    /** Whether what is kept is of the primary's present life. */
    let isOfThisLife = false;
    const hits: string[] = [];
    for (const { aim, victim, fromNothing, diskless } of plan(random)) {
      if (fromNothing) rmSync(dir, { recursive: true, force: true });
      await server.sendAll([
        ["CONFIG", "SET", "repl-diskless-sync", diskless ? "yes" : "no"],
        ["CONFIG", "SET", "rdb-key-save-delay", diskless ? 500 : 0],
      ]);
      const kept = keepsSomethingWhole(dir);
      const resumes = kept && isOfThisLife;
      const possible = resumes && (aim === "payload" || aim === "finishing") ? "stream" : aim;
      const before = await counted(server);
      await using replica = startReplica(args);
      await waitFor(possible, replica, server, dir, before, random);
      expect(replica.isRunning, replica.output()).toBe(true);
      hits.push(`${possible} ${victim} (${load.commands} commands)`);
      const connected = connections(replica);
      if (victim === "replica") await replica.kill9();
      else await server.kill9();
      if (kept) expect(keepsSomethingWhole(dir), replica.output()).toBe(true);
      if (victim === "primary") {
        await load[Symbol.asyncDispose]();
        // Of a sync over its disk. It begins anew.
        rmSync(join(server.dir, "dump.rdb"), { force: true });
        await server.restart();
        await fill(server);
        await until(() => connections(replica) > connected, {
          what: `a full resync of the primary's new life\n${replica.output()}`,
        });
        isOfThisLife = true;
        await expectEqual(server, replica, dir);
        load = await SeededLoad.start(server, SEED);
        continue;
      }
      if (resumes) expect((await counted(server)).full, replica.output()).toBe(before.full);
      if (!keepsSomethingWhole(dir)) continue;
      if (/connected by/.test(replica.stderr)) isOfThisLife = true;
      const { exitCode, stdout } = await runReplica(["verify", dir]);
      expect(exitCode, `${replica.output()}\n${stdout}`).toBe(0);
    }
    await using replica = startReplica(args);
    await replica.waitForLine(/connected by (?:full|partial) resync/);
    await load.stop();
    await load[Symbol.asyncDispose]();
    await expectEqual(server, replica, dir);
    console.log(kind, hits.join(", "));
  },
  60_000 + KILLS * 20_000,
);
