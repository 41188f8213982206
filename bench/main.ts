import * as fs from "node:fs";
import { parseArgs } from "node:util";
import { benchArchive } from "./archive.ts";
import { benchArchiveMemory } from "./archive-memory.ts";
import { transferChart } from "./chart.ts";
import { benchCluster } from "./cluster.ts";
import { benchLogRead } from "./log-read.ts";
import { benchParts } from "./parts.ts";
import { benchPort } from "./port.ts";
import { benchPrimary } from "./primary.ts";
import { benchRdbRead } from "./rdb-read.ts";
import { benchRelay } from "./relay.ts";
import { benchRestart } from "./restart.ts";
import { benchRestore } from "./restore.ts";
import { benchStart } from "./start.ts";
import { benchSteady } from "./steady.ts";
import { benchStream } from "./stream.ts";
import { benchTransfer, transferTable } from "./transfer.ts";
import { benchYear } from "./year.ts";

const HELP = `bun run bench [parts|transfer|primary|stream|steady|restore|relay|port|start|restart|year|rdb-read|log-read|archive|archive-memory|cluster …] [flags]; default: all

  --quick        smaller sizes and fewer rounds: everything in under a minute
  --bytes N      snapshot size for transfer, primary, restore, relay and archive, at least 16777216 [2147483648; with --quick 268435456]
  --rounds N     rounds of transfer, primary, restore, relay and archive [5; with --quick 1]
  --json FILE    write the results of all but parts and restart as JSON
  --svg FILE     write the results of transfer as a chart
`;
/** The sender's snapshot has at least one block. */
const MIN_BYTES = 16 * 2 ** 20;
/** The snapshots of which archive-memory archives each: what is larger takes no more memory. */
const MEMORY_BYTES = [384 * 2 ** 20, 2 ** 30] as const;
const BENCHES = [
  "parts",
  "transfer",
  "primary",
  "stream",
  "steady",
  "restore",
  "relay",
  "port",
  "start",
  "restart",
  "year",
  "rdb-read",
  "archive",
  "archive-memory",
  "cluster",
  "log-read",
] as const;

/** A wrong command line: printed with the help; exit code 2. */
class Usage extends Error {}

function commandLine() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        quick: { type: "boolean", default: false },
        bytes: { type: "string" },
        rounds: { type: "string" },
        json: { type: "string" },
        svg: { type: "string" },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new Usage(error instanceof Error ? error.message : String(error));
  }
}

function whole(name: string, text: string | undefined, otherwise: number, least: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!Number.isSafeInteger(value) || value < least) {
    throw new Usage(`${name} takes a whole number from ${least}`);
  }
  return value;
}

async function main(): Promise<void> {
  const { values, positionals } = commandLine();
  const unknown = positionals.find((name) => !BENCHES.some((known) => known === name));
  if (unknown !== undefined) throw new Usage(`unknown bench ${unknown}`);
  if (values.help) {
    process.stdout.write(HELP);
    return;
  }
  const { quick } = values;
  const wanted = (name: string) => positionals.length === 0 || positionals.includes(name);
  const bytes = whole("--bytes", values.bytes, quick ? 256 * 2 ** 20 : 2 * 2 ** 30, MIN_BYTES);
  const rounds = whole("--rounds", values.rounds, quick ? 1 : 5, 1);
  const results: Record<string, unknown> = {};
  if (wanted("parts")) await benchParts(quick);
  if (wanted("transfer")) {
    const result = await benchTransfer({ bytes, rounds, quick });
    results["transfer"] = result;
    console.log(`\ntransfer: ${transferTable(result)}\n`);
    if (values.svg !== undefined) fs.writeFileSync(values.svg, transferChart(result));
  }
  if (wanted("primary")) results["primary"] = await benchPrimary({ bytes, rounds, quick });
  if (wanted("stream")) results["stream"] = await benchStream(quick);
  if (wanted("steady")) results["steady"] = await benchSteady(quick ? 3 : 20);
  if (wanted("restore")) results["restore"] = await benchRestore({ bytes, rounds });
  if (wanted("relay")) results["relay"] = await benchRelay({ bytes, rounds });
  if (wanted("port")) results["port"] = await benchPort(quick);
  if (wanted("start")) results["start"] = benchStart(quick ? 5 : 30);
  if (wanted("restart")) await benchRestart();
  if (wanted("year")) results["year"] = await benchYear(quick);
  if (wanted("rdb-read")) results["rdb-read"] = await benchRdbRead(quick);
  if (wanted("archive")) results["archive"] = await benchArchive({ bytes, rounds, quick });
  const isNamed = positionals.includes("archive-memory");
  if (isNamed || (positionals.length === 0 && !quick)) {
    const sizes = quick ? [MEMORY_BYTES[0]] : MEMORY_BYTES;
    results["archive-memory"] = await benchArchiveMemory({ sizes, seconds: quick ? 5 : 20 });
  }
  if (wanted("cluster")) results["cluster"] = await benchCluster(quick);
  if (wanted("log-read")) results["log-read"] = await benchLogRead(quick);
  if (values.json !== undefined) {
    fs.writeFileSync(values.json, `${JSON.stringify(results, undefined, 2)}\n`);
  }
}

try {
  await main();
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(error instanceof Usage ? `${message}\n\n${HELP}` : `${message}\n`);
  process.exit(error instanceof Usage ? 2 : 1);
}
