import { mkdirSync, writeFileSync } from "node:fs";
import { bootCopyOfDir, type RealServer, type ServerKind } from "../../support/servers.ts";
import { freePort } from "../../support/ports.ts";
import { tempDir } from "../../support/temp.ts";

/** The `nodes.conf` of a cluster of one node, which owns all slots. */
export const OWNER_OF_ALL = `${"a".repeat(40)} 127.0.0.1:0@0 myself,master - 0 0 1 connected 0-16383
vars currentEpoch 1 lastVoteEpoch 0
`;

/** Arguments for a server that is a whole cluster, where it starts in a folder with such a `nodes.conf`. */
export function clusterArgs(isCluster: boolean): string[] {
  if (!isCluster) return [];
  return ["--cluster-enabled", "yes", "--cluster-port", String(freePort())];
}

/** Starts a server that loads this log: alone, or as a cluster of one node, which owns all slots. */
export async function loadLog(
  kind: ServerKind,
  log: Uint8Array,
  options: { readonly isCluster: boolean; readonly args?: readonly string[] },
): Promise<RealServer> {
  using dir = tempDir("log-to-load");
  mkdirSync(dir.file("appendonlydir"));
  writeFileSync(dir.file("appendonlydir", "appendonly.aof.1.incr.aof"), log);
  writeFileSync(
    dir.file("appendonlydir", "appendonly.aof.manifest"),
    "file appendonly.aof.1.incr.aof seq 1 type i\n",
  );
  writeFileSync(dir.file("nodes.conf"), OWNER_OF_ALL);
  const args = [...clusterArgs(options.isCluster), ...(options.args ?? [])];
  return await bootCopyOfDir(kind, dir.path, { args: ["--appendonly", "yes", ...args] });
}

/** The lines of a server's log in which it complains about what it loaded. */
export function complaints(server: RealServer): string[] {
  return server
    .log()
    .split("\n")
    .filter((line) => /CRITICAL|error/i.test(line));
}
