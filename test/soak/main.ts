import { parseArgs } from "node:util";
import { availableServers, type ServerKind } from "../support/servers.ts";
import { HOW_TO_GET_SERVERS } from "../support/server-catalog.ts";
import { reportText } from "./report.ts";
import { soak } from "./soak.ts";

const HELP = `bun run soak [flags]: runs a replica of a real primary under load, with faults of every kind, and
compares what it keeps and relays with the primary again and again. Prints a report. If anything is
lost or differs, it exits with 1 and keeps all files.

  --minutes N      how long to run; longer, until every kind of fault has happened (default: 10)
  --seed N         repeats the faults of an earlier run (default: a new seed)
  --server KIND    ${"redis-7.0, redis-8.0, valkey-8.1 or valkey-9 (default: chosen by the seed)"}
  --binary HOW     source, or compiled: the program built by bun run build (default: source)
  --json           print the report as JSON
  --help           print this help
`;

/** A wrong command line: printed with the help, exit code 2. */
class Usage extends Error {}

function commandLine() {
  try {
    return parseArgs({
      options: {
        minutes: { type: "string", default: "10" },
        seed: { type: "string" },
        server: { type: "string" },
        binary: { type: "string", default: "source" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    throw new Usage(error instanceof Error ? error.message : String(error));
  }
}

async function main(): Promise<number> {
  const values = commandLine();
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new Usage("--minutes takes a number greater than 0");
  const seed = Number(values.seed ?? Math.floor(Math.random() * 0x7fff_ffff));
  if (!Number.isSafeInteger(seed)) throw new Usage("--seed takes a whole number");
  const { binary } = values;
  if (binary !== "source" && binary !== "compiled")
    throw new Usage("--binary is source or compiled");
  const report = await soak({
    minutes,
    seed,
    server: serverOf(values.server, seed),
    binary,
    onEvent: (line) => process.stderr.write(`${line}\n`),
  });
  process.stdout.write(values.json ? `${JSON.stringify(report)}\n` : reportText(report));
  return report.problems.length === 0 ? 0 : 1;
}

function serverOf(name: string | undefined, seed: number): ServerKind {
  const servers = availableServers();
  if (servers.length === 0) throw new Error(`no server is installed: ${HOW_TO_GET_SERVERS}`);
  const server =
    name === undefined
      ? servers[Math.abs(seed) % servers.length]
      : servers.find((kind) => kind === name);
  if (server === undefined) throw new Usage(`--server is one of ${servers.join(", ")}`);
  return server;
}

try {
  process.exitCode = await main();
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(error instanceof Usage ? `${message}\n\n${HELP}` : `${message}\n`);
  process.exitCode = error instanceof Usage ? 2 : 1;
}
