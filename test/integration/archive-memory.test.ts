import { afterAll, expect, test } from "bun:test";
import * as fs from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import {
  baseFolder,
  BASE_FILE,
  logFolder,
  parseSegmentName,
} from "../../src/archive/format/names.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { availableServers, type RealServer, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const MIB = 1024 * 1024;
/** The most that the program may take. `bench archive-memory` measures what it takes with larger snapshots. */
const MOST_BYTES = 160 * MIB;
const BASE_BYTES = 128 * MIB;
const LOG_BYTES = 48 * MIB;
const VALUE_BYTES = 64 * 1024;
const AT_ONCE = 64;

const dir = tempDir("archive-memory");
afterAll(() => dir.remove());

/** Sets values that nothing compresses. */
async function setValues(primary: RealServer, bytes: number): Promise<void> {
  const value = crypto.getRandomValues.bind(crypto);
  for (let n = 0; n < bytes / VALUE_BYTES; n += AT_ONCE) {
    const commands = Array.from({ length: AT_ONCE }, (_, at) => [
      "SET",
      `key:${n + at}`,
      value(new Uint8Array(VALUE_BYTES)),
    ]);
    await primary.sendAll(commands);
  }
}

/** The last offset in the archive; undefined before it holds the snapshot. */
function archivedOffset(folder: string): number | undefined {
  const [name] = fs.existsSync(`${folder}/generations`)
    ? fs.readdirSync(`${folder}/generations`)
    : [];
  if (name === undefined || !fs.existsSync(`${folder}/${baseFolder(name)}/../${BASE_FILE}`))
    return undefined;
  const log = `${folder}/${logFolder(name)}`;
  const names = fs.existsSync(log) ? fs.readdirSync(log) : [];
  return Math.max(0, ...names.map((one) => parseSegmentName(one)?.to ?? 0));
}

function expectLittle(replica: ReplicaProcess, doing: string): void {
  const bytes = replica.rssPeakBytes();
  console.log(`${doing}: ${(bytes / MIB).toFixed(0)} MiB at most`);
  expect([doing, bytes <= MOST_BYTES]).toEqual([doing, true]);
}

test("to archive a large snapshot and a stream, encrypted, takes 160 MiB at most, and so does filling a directory from it", async () => {
  const key = await generateX25519Identity();
  const identity = dir.file("identity.txt");
  fs.writeFileSync(identity, `${key}\n`);
  const folder = dir.file("archive");
  await using primary = await startServer(availableServers().at(-1)!, {
    args: ["--repl-backlog-size", "64mb"],
  });
  await setValues(primary, BASE_BYTES);
  const args = ["follow", primary.url(), "--port", "0", "--no-progress", "--archive-every", "1s"];
  args.push("--archive", `file://${folder}`, "--archive-identity", identity);
  args.push("--archive-recipient", await identityToRecipient(key));
  {
    await using replica = startReplica([...args, "--dir", dir.file("data")]);
    await until(() => archivedOffset(folder) !== undefined, { what: "the snapshot" });
    await setValues(primary, LOG_BYTES);
    const end = await primary.offset();
    await until(() => (archivedOffset(folder) ?? 0) >= end, { what: "the stream in the archive" });
    expectLittle(replica, "archiving");
  }
  await using replica = startReplica([...args, "--dir", dir.file("filled")]);
  await replica.waitForLine(/filled .* from the archive/);
  await replica.waitForLine(/connected by partial resync/);
  expectLittle(replica, "filling");
});
