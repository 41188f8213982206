import * as fs from "node:fs";
import { parseArgs } from "node:util";
import { transferChart } from "./chart.ts";
import { benchParts } from "./parts.ts";
import { benchPrimary } from "./primary.ts";
import { benchRestart } from "./restart.ts";
import { benchStream } from "./stream.ts";
import { benchTransfer, transferTable } from "./transfer.ts";

const HELP = `bun run bench [parts|transfer|primary|stream|restart …] [flags]: all of them where none is named

  --quick        sizes and rounds for a look: all of them in under a minute
  --bytes N      the snapshot's size for transfer and primary (2147483648, with --quick 268435456)
  --rounds N     rounds of transfer and primary, all receivers in turn (5, with --quick 1)
  --json FILE    the results of transfer, primary and stream, for programs
  --svg FILE     the results of transfer as a chart
`;
const BENCHES = ["parts", "transfer", "primary", "stream", "restart"] as const;

const { values, positionals } = parseArgs({
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

function whole(name: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Error(`${name} is a whole number from 1`);
  return value;
}

async function main(): Promise<void> {
  const unknown = positionals.find((name) => !BENCHES.some((known) => known === name));
  if (values.help || unknown !== undefined) {
    process.stdout.write(unknown === undefined ? HELP : `there is no bench ${unknown}\n\n${HELP}`);
    process.exitCode = unknown === undefined ? 0 : 2;
    return;
  }
  const { quick } = values;
  const wanted = (name: string) => positionals.length === 0 || positionals.includes(name);
  const bytes = whole("--bytes", values.bytes, quick ? 256 * 2 ** 20 : 2 * 2 ** 30);
  const rounds = whole("--rounds", values.rounds, quick ? 1 : 5);
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
  if (wanted("restart")) await benchRestart();
  if (values.json !== undefined) {
    fs.writeFileSync(values.json, `${JSON.stringify(results, undefined, 2)}\n`);
  }
}

await main();
