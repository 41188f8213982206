import type { DeliveredEntry } from "../../src/inspect/deliver/entry.ts";
import type { RespClient } from "./resp-client.ts";
import type { RealServer } from "./servers.ts";

const VERSION_AND_CRC_BYTES = 10;

/** Replies are read as text here, so names and payloads come in hex. */
const HEX = `local function hex(text)
  return (text:gsub(".", function(byte) return string.format("%02x", byte:byte()) end))
end `;
const NAMES = `${HEX} local names = redis.call("KEYS", ARGV[1])
for at, name in ipairs(names) do names[at] = hex(name) end
table.sort(names)
return names`;
const DUMP = `${HEX} return hex(redis.call("DUMP", KEYS[1]))`;

/** The keys of a server as an RDB would hold them, from what DUMP says of each. */
export async function dumpedEntries(
  server: RealServer,
  databases: readonly number[],
  pattern = "*",
): Promise<DeliveredEntry[]> {
  const client = await server.connect();
  try {
    const found: DeliveredEntry[] = [];
    for (const db of databases) {
      await client.send("SELECT", db);
      const names = (await client.send("EVAL", NAMES, 0, pattern)) as string[];
      for (const hex of names) found.push(await dumped(client, db, Buffer.from(hex, "hex")));
    }
    return found;
  } finally {
    client.close();
  }
}

/** The first version of an RDB that Valkey writes with a magic of its own. */
const VALKEYS_OWN = 80;

async function dumped(client: RespClient, db: number, key: Uint8Array): Promise<DeliveredEntry> {
  const payload = Buffer.from(String(await client.send("EVAL", DUMP, 1, key)), "hex");
  const expiresAtMs = Number(await client.send("PEXPIRETIME", key));
  const end = payload.length - VERSION_AND_CRC_BYTES;
  const rdbVersion = payload.readUInt16LE(end);
  return {
    db,
    key,
    kind: String(await client.send("TYPE", key)),
    opcode: payload[0]!,
    value: payload.subarray(1, end),
    expiresAtMs: expiresAtMs < 0 ? undefined : expiresAtMs,
    idleSeconds: undefined,
    frequency: undefined,
    elements: undefined,
    rdbVersion,
    magic: rdbVersion >= VALKEYS_OWN ? "VALKEY" : "REDIS",
  };
}
