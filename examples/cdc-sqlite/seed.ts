/**
 * Fills a mirror with what is kept under a prefix, as of the last durable byte; mirror.ts goes on from there:
 * `bun seed.ts DATA-DIRECTORY|ARCHIVE-URL MIRROR.sqlite PREFIX`. It needs `redis-server` on the PATH, or another server
 * that loads the data, named by SERVER.
 */
import { RedisClient } from "bun";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { restore } from "bun-replica";
import { Tables } from "./tables.ts";

const [source = "", path = "", prefix = ""] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "seed-"));
const dir = join(folder, "restored");
const socket = join(folder, "redis.sock");

try {
  const { offset, replid } = await restore(source, dir);
  await using server = startServer();
  const client = new RedisClient(`redis+unix://${socket}`);
  await loaded(client, server);
  using tables = new Tables(path);
  tables.begin();
  tables.removeAll();
  const pattern = `${prefix.replaceAll(/[\\*?[\]^-]/g, String.raw`\$&`)}*`;
  for (let cursor = "0", isFirst = true; isFirst || cursor !== "0"; isFirst = false) {
    const [next, keys] = await client.send("SCAN", [cursor, "MATCH", pattern, "COUNT", "1000"]);
    for (const key of keys as string[]) await copy(client, tables, key);
    cursor = next;
  }
  tables.position = { offset, replid };
  tables.commit();
  client.close();
  console.log(`${path} holds ${prefix}* as of offset ${offset}`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Starts a stock server on what was restored; it ends at the end of the block. */
function startServer() {
  const settings = ["--dir", dir, "--appendonly", "yes", "--port", "0", "--unixsocket", socket];
  const command = [process.env["SERVER"] ?? "redis-server", ...settings];
  return Bun.spawn(command, { stdout: "ignore" });
}

/** Waits until the server has loaded its data. */
async function loaded(client: RedisClient, server: Bun.Subprocess): Promise<void> {
  for (;;) {
    if (server.exitCode !== null) throw new Error(`the server ended with ${server.exitCode}`);
    const isUp = await client.send("PING", []).then(
      () => true,
      () => false,
    );
    if (isUp) return;
    await Bun.sleep(50);
  }
}

async function copy(client: RedisClient, tables: Tables, key: string): Promise<void> {
  const name = bytesOf(key);
  switch (await client.send("TYPE", [key])) {
    case "string":
      return tables.set(name, (await client.getBuffer(key))!);
    case "hash": {
      const fields = await client.send("HGETALL", [key]);
      for (const [field, value] of Object.entries(fields as Record<string, string>))
        tables.setField(name, bytesOf(field), bytesOf(value));
      return;
    }
    default:
      throw new Error(`${key} is neither a string nor a hash: this mirror has no table for it`);
  }
}

/** The client decodes replies, and has put U+FFFD where bytes were no UTF-8. */
function bytesOf(text: string): Buffer {
  if (text.includes("\ufffd"))
    throw new Error(`${text} is no UTF-8: this seed reads keys and hashes as text`);
  return Buffer.from(text);
}
