import { describe, expect, test } from "bun:test";
import { findServer } from "../../src/stock/server-program.ts";
import { checkRestored } from "../../src/stock/stock-server.ts";
import { availableServers } from "../support/servers.ts";
import { layRestored, ownParts, serverScript } from "../support/stock.ts";
import { tempDir } from "../support/temp.ts";

const never = new AbortController().signal;

// As ssh hands on the language of another machine.
describe.each(availableServers())("with a locale that this machine lacks, %s", (kind) => {
  test("loads what was restored", async () => {
    using dir = tempDir("locale");
    const parts = await ownParts(kind);
    const restored = layRestored(dir.file("to"), "multipart", parts);
    const usual = process.env["LC_ALL"];
    process.env["LC_ALL"] = "xx_XX.UTF-8";
    try {
      const server = await findServer(serverScript(dir, kind));
      const found = await checkRestored(restored, server, { digest: true, signal: never });
      expect(found.digest).toBe(parts.digest);
    } finally {
      process.env["LC_ALL"] = usual;
    }
  });
});
