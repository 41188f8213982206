import { expect, test } from "bun:test";
import { layRestored } from "../support/stock.ts";
import { availableServers, bootCopyOfDir, type ServerKind } from "../support/servers.ts";
import { encodeCommand } from "../support/resp.ts";
import { smallRdb } from "./bad-input-rig.ts";
import { tempDir } from "../support/temp.ts";

/** As RESTORE.md tells to start once where ACLs restrict the default user. */
const ALLOWED = "default on nopass ~* &* +@all".split(" ");
const RESTRICTED = "default on nopass ~* &* +@read +@connection".split(" ");
/** Valkey 9 doesn't ask for permissions when it loads. */
const DROPS: ServerKind[] = ["redis-7.0", "redis-8.0", "valkey-8.1"];

test.concurrent.each(availableServers())(
  "a loading server drops commands of transactions that its default user may not run: %s",
  async (kind) => {
    using dir = tempDir("default-user");
    const commands = [["SELECT", 0], ["SET", "plain", 1], ["MULTI"], ["SET", "in", 1], ["EXEC"]];
    const log = Buffer.concat(commands.map((words) => encodeCommand(words)));
    layRestored(dir.path, "multipart", { base: smallRdb("a value"), log });
    for (const user of [RESTRICTED, ALLOWED]) {
      const args = ["--appendonly", "yes", "--user", ...user];
      await using server = await bootCopyOfDir(kind, dir.path, { args });
      const isDropped = user === RESTRICTED && DROPS.includes(kind);
      expect(await server.send("GET", "plain")).toBe("1");
      expect(await server.send("GET", "in")).toBe(isDropped ? null : "1");
      const told = server.log().includes("sending an error to its AOF-loading-client");
      expect(told).toBe(isDropped);
    }
  },
);
