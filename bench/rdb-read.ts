import * as fs from "node:fs";
import { join } from "node:path";
import { RdbChecker } from "../src/rdb/checker.ts";
import type { RdbHandlers } from "../src/rdb/reader/entry.ts";
import { realDisk } from "../src/store/disk/disk.ts";
import { readBlocks } from "../src/store/disk/blocks.ts";
import { readRdb } from "../src/store/restore/read-rdb.ts";
import { fillAllTypes } from "../test/support/fill.ts";
import { availableServers, type RealServer, startServer, tool } from "../test/support/servers.ts";
import { median } from "./measure.ts";

/** How fast a reader went through an RDB. */
export interface RdbReadRow {
  readonly keys: string;
  readonly reader: string;
  readonly mbPerSecond: number;
  readonly keysPerSecond: number;
}

interface Data {
  readonly name: string;
  readonly fill: (server: RealServer) => Promise<unknown>;
}

/** Keys of DEBUG POPULATE: `key:123`. */
const populated = (keys: number, bytes: number): Data => ({
  name: `strings of ${bytes} bytes`,
  fill: (server) => server.send("DEBUG", "POPULATE", keys, "key", bytes),
});

interface Reader {
  readonly name: string;
  /** @returns how many keys it found; undefined where it doesn't count them. */
  readonly read: (path: string) => Promise<number | undefined>;
}

const IGNORED: RdbHandlers = { entry: () => undefined };
const signal = new AbortController().signal;

function readersFor(server: RealServer): Reader[] {
  const own = (name: string, handlers: RdbHandlers, checksum: boolean): Reader => ({
    name,
    read: async (path) => {
      const options = { disk: realDisk, signal, checksum };
      return (await readRdb(path, handlers, options)).keys;
    },
  });
  return [
    own("RdbReader", IGNORED, true),
    own("RdbReader, no checksum", IGNORED, false),
    own("RdbReader, values handed on", { ...IGNORED, wants: () => true }, true),
    {
      name: "floor: the checksum alone",
      read: async (path) => {
        const checker = new RdbChecker();
        await readBlocks(
          realDisk,
          path,
          { from: 0, to: Infinity },
          (block) => checker.push(block),
          signal,
        );
        checker.finish();
        return undefined;
      },
    },
    {
      name: `${server.kind}'s own checker`,
      read: async (path) => {
        const child = Bun.spawn([...tool(server.kind, "redis-check-rdb"), path], {
          stdout: "pipe",
        });
        const said = await new Response(child.stdout).text();
        if ((await child.exited) !== 0) throw new Error(`it refuses the RDB: ${said}`);
        return Number(/(\d+) keys read/.exec(said)?.[1]);
      },
    },
  ];
}

/**
 * Measures how fast an RDB's structure is read from the page cache, next to the least possible work and to what the server
 * itself takes to check the file, which builds every value.
 */
export async function benchRdbRead(quick: boolean): Promise<readonly RdbReadRow[]> {
  const kind = availableServers().findLast((known) => known.startsWith("redis"))!;
  const times = quick ? 1 : 8;
  const data: Data[] = [
    populated(400_000 * times, 10),
    populated(300_000 * times, 64),
    populated(100 * times, 512 * 1024),
    { name: "of all types", fill: (server) => fillAllTypes(server, { keys: 60_000 * times }) },
  ];
  const rows: RdbReadRow[] = [];
  console.log("\n| keys | MB | reader | MB/s | keys/s |\n|---|--:|---|--:|--:|");
  for (const { name, fill } of data) {
    await using server = await startServer(kind, { args: ["--rdbcompression", "no"] });
    await fill(server);
    await server.send("SAVE");
    const path = join(server.dir, "dump.rdb");
    const { size } = fs.statSync(path);
    const readers = readersFor(server);
    const seconds = new Map(readers.map((reader) => [reader.name, [] as number[]]));
    let keys = 0;
    for (let round = 0; round < (quick ? 2 : 5); round++) {
      for (const reader of readers) {
        const beganMs = performance.now();
        keys = (await reader.read(path)) ?? keys;
        seconds.get(reader.name)!.push((performance.now() - beganMs) / 1000);
      }
    }
    for (const [reader, those] of seconds) {
      const mbPerSecond = size / 1e6 / median(those);
      rows.push({ keys: name, reader, mbPerSecond, keysPerSecond: keys / median(those) });
      const rate = Math.round(keys / median(those)).toLocaleString("en");
      console.log(
        `| ${name} | ${Math.round(size / 1e6)} | ${reader} | ${mbPerSecond.toFixed(0)} | ${rate} |`,
      );
    }
  }
  return rows;
}
