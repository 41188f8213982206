import { formatBytes } from "../src/base/quantity.ts";
import { type ServerKind, startServer } from "../test/support/servers.ts";
import { until } from "../test/support/wait.ts";
import { type Figures, median, scratchDirectory } from "./measure.ts";
import {
  dropped,
  type Receiver,
  redisCli,
  refuseWithoutProgram,
  replicaBackup,
  replicaFollow,
} from "./receivers.ts";

const VALUE_BYTES = 64 * 1024;
const FILL_LIMIT_MS = 600_000;

export interface PrimaryRow {
  readonly name: string;
  readonly server: ServerKind;
  readonly diskless: boolean;
  readonly seconds: number;
  /** Time relative to the receiver that drops the bytes; the median of the ratios per round. */
  readonly timesDropped: number;
  readonly runs: readonly Figures[];
}

/** Measures receiving a real primary's snapshot, relative to how fast that primary sends. */
export async function benchPrimary(options: {
  readonly bytes: number;
  readonly rounds: number;
  readonly quick: boolean;
}): Promise<PrimaryRow[]> {
  refuseWithoutProgram();
  const rows: PrimaryRow[] = [];
  // Redis 8.0 sends the snapshot and the stream on two links, where it does so without its disk.
  for (const [kind, diskless] of [
    ["redis-7.0", true],
    ["redis-7.0", false],
    ["redis-8.0", true],
  ] as const) {
    const args = ["--repl-diskless-sync", diskless ? "yes" : "no", "--repl-diskless-sync-delay"];
    args.push("0", "--rdbcompression", "no", "--enable-debug-command", "local");
    await using server = await startServer(kind, { args, startTimeoutMs: FILL_LIMIT_MS });
    await server.send(
      "DEBUG",
      "POPULATE",
      Math.ceil(options.bytes / VALUE_BYTES),
      "key",
      VALUE_BYTES,
    );
    const receivers: Receiver[] = [dropped, replicaBackup("compiled", "auto")];
    if (kind === "redis-8.0") {
      receivers.push(replicaFollow("compiled", "auto", 1), replicaFollow("compiled", "auto", 2));
    } else if (!options.quick) receivers.push(replicaFollow("compiled", "auto"), redisCli);
    const runs = new Map<Receiver, Figures[]>(receivers.map((receiver) => [receiver, []]));
    for (let round = 0; round < options.rounds; round++) {
      for (let n = 0; n < receivers.length; n++) {
        const receiver = receivers[(n + round) % receivers.length]!;
        await until(
          async () => (await server.info("persistence"))["rdb_bgsave_in_progress"] === "0",
          {
            what: "the primary to be idle",
            timeoutMs: FILL_LIMIT_MS,
          },
        );
        runs.get(receiver)!.push(await runOne(receiver, server.port));
      }
    }
    const floor = runs.get(dropped)!;
    for (const receiver of receivers) {
      const own = runs.get(receiver)!;
      const ratios = own.map((run, round) => run.seconds / floor[round]!.seconds);
      rows.push({
        name: receiver.name,
        server: kind,
        diskless,
        seconds: median(own.map((run) => run.seconds)),
        timesDropped: median(ratios),
        runs: own,
      });
    }
  }
  console.log(
    `\nprimary: ${formatBytes(options.bytes)} from a redis-server, medians of ${options.rounds} rounds; × is the time relative to dropping the bytes\n`,
  );
  console.log("| server | receiver | sync | seconds | × |\n|---|---|---|--:|--:|");
  for (const row of rows) {
    const sync = row.diskless ? "diskless" : "disk-based";
    console.log(
      `| ${row.server} | ${row.name} | ${sync} | ${row.seconds.toFixed(2)} | ${row.timesDropped.toFixed(3)} |`,
    );
  }
  return rows;
}

async function runOne(receiver: Receiver, port: number): Promise<Figures> {
  using scratch = scratchDirectory();
  Bun.spawnSync(["sync"]);
  return await receiver.run({ port, dir: scratch.path, source: undefined });
}
