import { expect, test } from "bun:test";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { restorePoint } from "../../../src/store/restore/restore-point.ts";
import { Random } from "../../support/fill.ts";
import { follow } from "../../support/following.ts";
import { drawPatterns, KeyLoad } from "../../support/key-load.ts";
import {
  availableServers,
  type RealServer,
  type ServerKind,
  startServer,
} from "../../support/servers.ts";
import { amount, outermost, seedOf } from "../../support/sweep.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import { choosing, expectEqual, programOf, wholeAt } from "./equality.ts";

const COMMANDS = amount("CHOSEN_COMMANDS", { sample: 600, full: 4_000 });
const MOMENTS = amount("CHOSEN_MOMENTS", { sample: 2, full: 8 });
const PATTERNS = amount("CHOSEN_PATTERNS", { sample: 4, full: 10 });
const MIB = 1024 * 1024;
const TIME_LIMIT_MS = 1_800_000;

/** Servers that this load's commands are for, with an append-only directory. */
const KINDS = outermost(availableServers().filter((kind) => !/^redis-[2-6]\b/.test(kind)));

async function knows(server: RealServer, command: string): Promise<boolean> {
  const known = await server.send("COMMAND", "INFO", command);
  return Array.isArray(known) && known[0] !== null;
}

async function load(server: RealServer, keyLoad: KeyLoad, commands: number): Promise<void> {
  await using client = await server.connect();
  for (let left = commands; left > 0; left -= 20) {
    await client.exchange(Array.from({ length: Math.min(20, left) }, () => keyLoad.next()).flat());
  }
}

/** Follows a primary while it gets a load; what is returned says what has come. */
async function keepHistory(kind: ServerKind, dir: ReturnType<typeof tempDir>, random: Random) {
  await using primary = await startServer(kind);
  const can = {
    fieldExpiry: await knows(primary, "HPEXPIRE"),
    msetex: await knows(primary, "MSETEX"),
  };
  const keyLoad = new KeyLoad(random, can);
  await load(primary, keyLoad, COMMANDS / 3);
  await using following = follow(primary.url(), realDisk, dir);
  await following.connected();
  await load(primary, keyLoad, COMMANDS);
  const end = await primary.offset();
  await until(() => following.status.cursors.durable >= end, { what: "all to be durable" });
  await following.stop();
}

test.each(KINDS)(
  "%s: chosen keys are what a whole restore has of them, at any moment",
  async (kind) => {
    using dir = tempDir("chosen");
    const random = new Random(seedOf("CHOSEN_SEED"));
    await keepHistory(kind, dir, random);
    using catalogue = new Catalogue(dir.file("data"));
    const { baseOffset, durableOffset } = catalogue.generations.at(-1)!;
    const server = await programOf(dir, kind);
    for (let moment = 0; moment < MOMENTS; moment++) {
      const offset =
        moment === 0 ? baseOffset : baseOffset + random.below(durableOffset - baseOffset + 1);
      const point = restorePoint(catalogue, { generation: undefined, atMs: undefined, offset });
      await using whole = await wholeAt(catalogue, point, kind, dir);
      for (let draw = 0; draw < PATTERNS; draw++) {
        const wanted = {
          patterns: drawPatterns(random),
          db: random.below(3) === 0 ? random.below(3) : undefined,
        };
        // With little memory the log is read several times, or all of it replayed: that brings the same.
        const neededBytes = random.below(6) === 0 ? 0 : MIB;
        const options = choosing(server, {
          limits: { neededBytes, groupBytes: random.below(2) * MIB },
        });
        const about = await expectEqual(catalogue, point, whole, wanted, { kind, dir, options });
        if (about === undefined) continue;
        if (moment === 0) expect(about.how).toBe("base");
        if (neededBytes > 0) expect(about.how).not.toBe("whole");
      }
    }
  },
  TIME_LIMIT_MS,
);
