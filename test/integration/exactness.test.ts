import { expect, test } from "bun:test";
import { join } from "node:path";
import { realDisk } from "../../src/store/disk/disk.ts";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { type Layout, restore } from "../../src/store/restore/restore.ts";
import { restorePoint } from "../../src/store/restore/restore-point.ts";
import {
  type Abilities,
  ExpiringLoad,
  LIBRARY,
  LONGEST_SHORT_MS,
} from "../support/expiring-load.ts";
import { Random } from "../support/fill.ts";
import { follow } from "../support/following.ts";
import {
  type KeyState,
  keyText,
  livingAt,
  type LogicalState,
  logicalState,
} from "../support/logical-state.ts";
import type { RespClient } from "../support/resp-client.ts";
import { type Reply, ReplyError } from "../support/resp.ts";
import {
  availableServers,
  bootCopy,
  bootCopyOfDir,
  type RealServer,
  type ServerKind,
  startServer,
} from "../support/servers.ts";
import { amount, seedOf } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** Commands for each server, and how many moments amid them are restored besides the last one. */
const COMMANDS = amount("EXACT_COMMANDS", { sample: 500, full: 10_000 });
const CUTS = amount("EXACT_CUTS", { sample: 1, full: 9 });
const SEED = seedOf("EXACT_SEED");
const BATCH = 8;

const RUNNING = [
  "--repl-ping-replica-period",
  "3600",
  // Valkey 9.1 sometimes crashes in the child that saves. One that then tests the memory stays, and no other can begin.
  "--crash-memcheck-enabled",
  "no",
];

async function abilitiesOf(server: RealServer): Promise<Abilities> {
  const has = async (name: string) => {
    const reply = await server.send("COMMAND", "INFO", name);
    return Array.isArray(reply) && reply[0] !== null;
  };
  return {
    fieldExpiry: await has("HPERSIST"),
    fieldSetex: await has("HSETEX"),
    fieldGetdel: await has("HGETDEL"),
  };
}

/** What primary and attached replica held at an offset, as their clients saw it. */
interface Cut {
  readonly offset: number;
  readonly primary: LogicalState;
  readonly attached: LogicalState;
}

/** Reads both at the same offset: nothing expires on the primary meanwhile, unless it is read. */
async function cutAt(primary: RealServer, attached: RealServer, can: Abilities): Promise<Cut> {
  await primary.send("DEBUG", "SET-ACTIVE-EXPIRE", 0);
  const offset = await primary.offset();
  await until(async () => (await attached.offset()) >= offset, { what: "the attached replica" });
  const seen = await logicalState(attached, can.fieldExpiry);
  expect(await attached.offset()).toBe(offset);
  // Reading expires what is due, so the primary comes last.
  const cut = { offset, attached: seen, primary: await logicalState(primary, can.fieldExpiry) };
  await primary.send("DEBUG", "SET-ACTIVE-EXPIRE", 1);
  return cut;
}

/** Sends commands in batches, with time to expire between them. Returns how many took effect. */
async function run(client: RespClient, load: ExpiringLoad, random: Random, count: number) {
  let done = 0;
  for (let sent = 0; sent < count;) {
    const batch = Array.from({ length: 1 + random.below(BATCH) }, () => load.next()).flat();
    const replies = await client.exchange(batch);
    done += replies.filter((reply) => !(reply instanceof ReplyError)).length;
    sent += batch.length;
    // Time itself is what is tested.
    await Bun.sleep(random.below(12));
  }
  return done;
}

/** Waits until nothing is left that was due when this was called: the primary has removed it, by its stream too. */
async function settled(primary: RealServer, can: Abilities): Promise<void> {
  const endMs = Date.now() + LONGEST_SHORT_MS;
  await until(() => Date.now() > endMs, { what: "the short expiries" });
  let before = -1;
  await until(
    async () => {
      const state = await logicalState(primary, can.fieldExpiry);
      const offset = await primary.offset();
      const isStill = offset === before;
      before = offset;
      return isStill && [...state.values()].every((key) => key.heldFields === key.fields.size);
    },
    { what: "the primary to have removed what is due", everyMs: 300 },
  );
}

/**
 * Removes hashes that a primary left without a field. Valkey 9.1 does so now and then, and each of its children
 * that is to save one aborts: without this, no full sync would ever end.
 */
async function removeEmptyHashes(primary: RealServer): Promise<void> {
  await using client = await primary.connect();
  for (const db of [0, 1]) {
    await client.send("SELECT", db);
    for (const key of (await client.send("KEYS", "*")) as Reply[]) {
      if (String(await client.send("TYPE", String(key))) !== "hash") continue;
      if ((await client.send("HLEN", String(key))) === 0) await client.send("DEL", String(key));
    }
  }
}

interface Allowed {
  /** Fields that are only on the server that is looked at, by the number that the primary held, though due. */
  readonly dueFields?: boolean;
  /** Fields that it holds but hides, since their HPERSIST came late. */
  readonly hiddenFields?: boolean;
  /** The attached replica itself may have seen an HPERSIST too late. */
  readonly lateReplica?: boolean;
}

/** Whether what a server shows of a key is what the primary or its replica showed. */
function isSame(
  found: KeyState | undefined,
  attached: KeyState | undefined,
  primary: KeyState | undefined,
  held: number,
  allowed: Allowed,
): boolean {
  if (keyText(found) === keyText(attached)) return true;
  const hashes = [found, attached, primary].filter((key) => key !== undefined);
  if (hashes.some(({ text }) => text !== "hash hash")) return false;
  const expiries = new Set(hashes.map((key) => key.expiresAtMs));
  if (expiries.size > 1) return false;
  // A hash of which every field is hidden isn't part of what a server shows.
  const holdsAsMany = found === undefined || found.heldFields === attached?.heldFields;
  let extra = 0;
  for (const name of new Set(hashes.flatMap(({ fields }) => [...fields.keys()]))) {
    const [f, a, p] = [found, attached, primary].map((key) => {
      const field = key?.fields.get(name);
      return field && `${field.value}@${field.expiresAtMs}`;
    });
    if (f === a) continue;
    if (f === p && allowed.lateReplica === true) continue;
    if (f === undefined && allowed.hiddenFields === true && holdsAsMany) continue;
    if (f !== undefined && p === undefined && allowed.dueFields === true) extra++;
    else return false;
  }
  return extra <= Math.max(0, held - (primary?.fields.size ?? 0));
}

/** Compares what a server shows now with what was left of the cut at this time. */
async function differences(server: RealServer, cut: Cut, can: Abilities, allowed: Allowed) {
  const state = await logicalState(server, can.fieldExpiry);
  const nowMs = Date.now();
  const [found, attached, primary] = [state, cut.attached, cut.primary].map((one) =>
    livingAt(one, nowMs),
  );
  const lines: string[] = [];
  for (const name of new Set([...found!.keys(), ...attached!.keys(), ...primary!.keys()])) {
    const [f, a, p] = [found!.get(name), attached!.get(name), primary!.get(name)];
    // The primary may hold more fields than it shows.
    const held = cut.primary.get(name)?.heldFields ?? 0;
    if (isSame(f, a, p, held, allowed)) continue;
    lines.push(`${name}: ${keyText(f)}; replica ${keyText(a)}; primary ${keyText(p)}`);
  }
  return lines;
}

/** Restores a folder to an offset, without the command line around it. */
async function restoreAt(dataDir: string, offset: number, target: string, layout: Layout) {
  using catalogue = new Catalogue(dataDir);
  const point = restorePoint(catalogue, { generation: undefined, atMs: undefined, offset });
  return await restore(catalogue, point, target, {
    disk: realDisk,
    layout,
    signal: new AbortController().signal,
    onProgress: () => undefined,
  });
}

async function bootRestored(kind: ServerKind, target: string): Promise<RealServer> {
  return await bootCopyOfDir(kind, target, {
    args: ["--appendonly", "yes", "--aof-load-truncated", "no"],
  });
}

/** Prints the ends of servers' logs unless the test reached its end: a server that died tells why. */
class LogsOfFailure {
  readonly #servers: readonly RealServer[];
  isOver = false;

  constructor(servers: readonly RealServer[]) {
    this.#servers = servers;
  }

  [Symbol.dispose](): void {
    if (this.isOver) return;
    for (const server of this.#servers)
      console.log(`${server.kind}: ${server.log().slice(-30000)}`);
  }
}

test.concurrent.each(availableServers())(
  "whatever expires, and however late it is replayed, gives what a real replica held: %s",
  async (kind) => {
    using dir = tempDir("exact");
    const random = new Random(SEED);
    await using primary = await startServer(kind, { args: RUNNING });
    await using attached = await startServer(kind, { args: RUNNING });
    using logs = new LogsOfFailure([primary, attached]);
    const can = await abilitiesOf(primary);
    const load = new ExpiringLoad(random, can);
    await using client = await primary.connect();
    await client.send("FUNCTION", "LOAD", LIBRARY);
    // The snapshot holds what is due by the time of the replay, too.
    await run(client, load, random, 100);
    await attached.send("REPLICAOF", primary.host, primary.port);
    await using replica = follow(primary.url(), realDisk, dir, { fsync: "always" });
    const areOnline = async () => {
      await removeEmptyHashes(primary);
      const { slave0, slave1 } = await primary.info("replication");
      return [slave0, slave1].every((slave) => slave?.includes("state=online"));
    };
    await until(areOnline, { what: "both replicas to be online", everyMs: 300 });
    await replica.connected();
    await primary.acknowledgedBy(2);
    const cuts: Cut[] = [];
    let done = 0;
    for (let part = 0; part <= CUTS; part++) {
      done += await run(client, load, random, Math.ceil(COMMANDS / (CUTS + 1)));
      if (part < CUTS) cuts.push(await cutAt(primary, attached, can));
    }
    expect(done).toBeGreaterThan(COMMANDS / 2);
    await settled(primary, can);
    const last = await cutAt(primary, attached, can);
    await primary.acknowledgedBy(2);
    const label = (what: string) => `EXACT_SEED=${SEED} ${kind} ${what}`;

    // Redis looks at the clock when it applies an HPERSIST, even as a replica; Valkey doesn't.
    const looksAtClock = kind === "redis-8.0";
    await using downstream = await startServer(kind, { args: RUNNING });
    await downstream.send("REPLICAOF", "127.0.0.1", replica.port);
    await until(async () => (await downstream.offset()) >= last.offset, { what: "the downstream" });
    const hidden = { hiddenFields: looksAtClock, lateReplica: looksAtClock };
    expect(await differences(downstream, last, can, hidden), label("downstream")).toEqual([]);

    expect(await replica.stop()).toBeUndefined();
    for (const [index, cut] of [...cuts, last].entries()) {
      const target = dir.file(`restored-${index}`);
      const layout = index % 2 === 0 ? "multipart" : "single";
      const restored = await restoreAt(replica.path, cut.offset, target, layout);
      expect(restored.offset).toBe(cut.offset);
      await using server = await bootRestored(kind, target);
      const allowed = { dueFields: looksAtClock && cut !== last, lateReplica: looksAtClock };
      const found = await differences(server, cut, can, allowed);
      expect(found, label(`restored to ${cut.offset}`)).toEqual([]);
    }
    if (!looksAtClock) {
      await using server = await bootCopy(kind, join(replica.path, "current"));
      expect(await differences(server, last, can, {}), label("the files as they are")).toEqual([]);
    }
    logs.isOver = true;
  },
  120_000 + COMMANDS * 20,
);
