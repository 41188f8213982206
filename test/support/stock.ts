import * as fs from "node:fs";
import { join } from "node:path";
import { MANIFEST } from "../../src/store/generation/layout.ts";
import { type Layout, RESTORED } from "../../src/store/restore/restore.ts";
import { fillAllTypes } from "./fill.ts";
import { type ServerKind, startServer, tool } from "./servers.ts";
import type { TempDir } from "./temp.ts";
import { until } from "./wait.ts";

/** A text too short to be compressed: a changed byte of it breaks no length. */
export const SHORT_VALUE = "a short value";

/** Writes a script for `--server` that runs a fetched server through its own loader. */
export function serverScript(
  dir: TempDir,
  kind: ServerKind,
  { name = kind as string, more = "", version = "" } = {},
): string {
  const path = dir.file(`${name}.sh`);
  const words = tool(kind, "redis-server").map((word) => `'${word}'`);
  const claim =
    version === "" ? "" : `[ "$1" = --version ] && exec echo "Redis server v=${version} sha=0"\n`;
  fs.writeFileSync(path, `#!/bin/sh\n${claim}exec ${words.join(" ")} "$@" ${more}\n`);
  fs.chmodSync(path, 0o755);
  return path;
}

export interface Parts {
  readonly base: Uint8Array;
  readonly log: Uint8Array;
}

/** The content of a server's own append-only directory after a rewrite and some more writes. */
export async function ownParts(
  kind: ServerKind,
): Promise<Parts & { digest: string; keys: Record<number, number> }> {
  await using server = await startServer(kind, { args: ["--appendonly", "yes"] });
  await fillAllTypes(server, { keys: 2_000 });
  await server.send("SET", "short", SHORT_VALUE);
  await server.send("BGREWRITEAOF");
  await until(
    async () => {
      const info = await server.info("persistence");
      return /^0 0 [1-9]/.test(
        `${info["aof_rewrite_in_progress"]} ${info["aof_rewrite_scheduled"]} ${info["aof_base_size"]}`,
      );
    },
    { what: "the rewrite to end" },
  );
  await fillAllTypes(server, { keys: 300, databases: [3], seed: 2 });
  await server.send("EVAL", "return redis.call('SET', KEYS[1], 'x')", 1, "by-script");
  const [digest, keys] = [await server.digest(), await server.keysPerDatabase()];
  await server.stop();
  const dir = join(server.dir, "appendonlydir");
  const read = (pattern: RegExp): Uint8Array => {
    // The newest one: files from before the rewrite may still be there.
    const name = fs
      .readdirSync(dir)
      .filter((file) => pattern.test(file))
      .toSorted()
      .at(-1);
    return fs.readFileSync(join(dir, String(name)));
  };
  return { base: read(/base\.rdb$/), log: read(/incr\.aof$/), digest, keys };
}

/** Writes a restored folder of either layout. */
export function layRestored(dir: string, layout: Layout, { base, log }: Parts) {
  const files: Record<string, Uint8Array | string> =
    layout === "single"
      ? { "appendonly.aof": Buffer.concat([base, log]) }
      : { [MANIFEST]: RESTORED.manifestText, [RESTORED.base]: base, [RESTORED.log]: log };
  const folder = layout === "single" ? dir : join(dir, "appendonlydir");
  fs.mkdirSync(folder, { recursive: true });
  for (const [name, bytes] of Object.entries(files)) fs.writeFileSync(join(folder, name), bytes);
  return { dir, layout };
}

/** Every file below a folder, with hash, modification time and mode. */
export function fingerprint(dir: string): string[] {
  return fs
    .readdirSync(dir, { recursive: true, encoding: "utf8" })
    .toSorted()
    .map((name) => {
      const path = join(dir, name);
      const stat = fs.statSync(path);
      const hash = stat.isFile() ? Bun.hash(fs.readFileSync(path)) : "folder";
      return `${name} ${hash} ${stat.mtimeMs} ${stat.mode}`;
    });
}

/** The processes whose working folder begins with `path`. */
export function processesIn(path: string): number[] {
  return fs
    .readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return fs.readlinkSync(`/proc/${pid}/cwd`).startsWith(path);
      } catch {
        return false;
      }
    })
    .map(Number);
}
