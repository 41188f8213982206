import * as fs from "node:fs";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { ReplicaError, unreachable, usageError } from "../base/errors.ts";
import { diskError } from "../store/disk/disk.ts";
import { encodeCommand } from "../resp/encode.ts";
import { MANIFEST } from "../store/generation/layout.ts";
import { APPEND_DIR, type Restored, SINGLE_FILE } from "../store/restore/restore.ts";
import { makePrivateDirectory, type PrivateDirectory } from "./private-directory.ts";
import { hasClusterDatabases, nameOf, type ServerProgram } from "./server-program.ts";

/** What `replica restore` wrote: the directory and its layout. */
export type RestoredFiles = Pick<Restored, "dir" | "layout">;

/** A TCP address that a server listens on. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** What a stock server is: reachable over a socket alone, a server that clients read from, or a node of a cluster. */
export type StockRole =
  { readonly as: "private" } | (ListenAddress & { readonly as: "server" }) | StockNode;

/** A node of a cluster that has its slots and knows the others from the start. */
export interface StockNode extends ListenAddress {
  readonly as: "node";
  readonly busPort: number;
  /** The text of its `nodes.conf`, which the server rewrites. */
  readonly nodesConf: string;
  /** Whether some slots belong to nobody. */
  readonly isPartial: boolean;
  /** Keeps others on this machine out. */
  readonly password: string;
}

/** A directory for a stock server to run in. */
export interface StockDirectory extends PrivateDirectory {
  readonly socketPath: string;
  readonly role: StockRole;
  readonly configPath: string;
}

/** An empty file after the restored ones: the only one that the server opens for appending. */
const OPEN_END = "open-end.incr.aof";
/** A node can't be a replica of nobody. So the last thing that it loads stops it from expiring keys by itself. */
const KEEP_EXPIRED = encodeCommand("DEBUG", "SET-ACTIVE-EXPIRE", "0");
const NODES_CONF = "nodes.conf";
/**
 * More than any primary has: if a log selects a database that the server does not have, its commands are
 * loaded into the wrong one. Each database takes up to 4 KB (Redis 8.0).
 */
export const DATABASES = 10_000;

/**
 * Makes a private directory in which a server can run on a restore without ever writing to it. Redis 7
 * and later get links, and a manifest that ends with an empty file; older servers get a copy, because
 * they append to the single file that they load.
 * @throws ReplicaError USAGE, RESTORE_UNUSABLE, DISK_FULL, DISK_FAILED; or the signal's reason. Then no
 * directory is left.
 */
export async function makeStockDirectory(
  restored: RestoredFiles,
  server: ServerProgram,
  signal: AbortSignal,
  role: StockRole,
): Promise<StockDirectory> {
  refuseMismatch(restored, server);
  const { path, remove } = makePrivateDirectory();
  try {
    if (server.major < 7) {
      await copyFile(join(restored.dir, SINGLE_FILE), join(path, SINGLE_FILE), signal);
      if (role.as === "node") fs.appendFileSync(join(path, SINGLE_FILE), KEEP_EXPIRED);
    } else {
      makeLinks(restored, join(path, APPEND_DIR), role.as === "node" ? KEEP_EXPIRED : "");
    }
    if (role.as === "node") {
      fs.writeFileSync(join(path, NODES_CONF), role.nodesConf, { mode: 0o600 });
    }
    const socketPath = join(path, "s");
    const configPath = join(path, "server.conf");
    const config = [...baseConfig(path, socketPath, server), ...roleConfig(role, server)];
    fs.writeFileSync(configPath, config.map((line) => `${line}\n`).join(""), { mode: 0o600 });
    return { path, remove, socketPath, configPath, role };
  } catch (cause) {
    await remove();
    if (signal.aborted) throw signal.reason;
    throw diskError("preparing a server's directory in", path, cause);
  }
}

/**
 * Refuses a server that can't read the layout, before any work is done.
 * @throws ReplicaError USAGE.
 */
export function refuseMismatch(
  restored: Pick<RestoredFiles, "layout">,
  server: ServerProgram,
): void {
  if (server.major < 4) {
    throw usageError(
      `${nameOf(server)} can't read a snapshot inside an append-only file: give Redis 4 or later with --server`,
    );
  }
  if (server.major < 7 && restored.layout === "multipart") {
    throw usageError(
      `${nameOf(server)} can't read an append-only directory: restore with --layout single, or give Redis 7 or later with --server`,
    );
  }
}

function makeLinks(
  { dir, layout }: RestoredFiles,
  appendDir: string,
  end: Uint8Array | string,
): void {
  fs.mkdirSync(appendDir);
  const source = layout === "single" ? resolve(dir) : resolve(dir, APPEND_DIR);
  const names = layout === "single" ? [SINGLE_FILE] : restoredNames(source);
  for (const name of names) fs.symlinkSync(join(source, name), join(appendDir, name));
  // A base file may continue with commands: Redis 7 adopts an older server's file like this.
  const manifest =
    layout === "single"
      ? `file ${SINGLE_FILE} seq 1 type b\n`
      : fs.readFileSync(join(source, MANIFEST), "utf8");
  const sequences = [...manifest.matchAll(/ seq (\d+) type i\b/g)].map(([, seq]) => Number(seq));
  const next = Math.max(0, ...sequences) + 1;
  fs.writeFileSync(join(appendDir, OPEN_END), end);
  fs.writeFileSync(join(appendDir, MANIFEST), `${manifest}file ${OPEN_END} seq ${next} type i\n`);
}

function restoredNames(appendDir: string): string[] {
  const names = fs.existsSync(appendDir) ? fs.readdirSync(appendDir) : [];
  if (!names.includes(MANIFEST)) {
    throw new ReplicaError("RESTORE_UNUSABLE", {
      retry: "never",
      message: `${appendDir} has no ${MANIFEST}: nothing was restored there, or only part of it`,
    });
  }
  return names.filter((name) => name !== MANIFEST);
}

/** Copies by reference if the file system can, which takes no space and no time. */
async function copyFile(from: string, to: string, signal: AbortSignal): Promise<void> {
  try {
    await fs.promises.copyFile(from, to, fs.constants.COPYFILE_FICLONE_FORCE);
  } catch {
    try {
      await pipeline(fs.createReadStream(from), fs.createWriteStream(to), { signal });
    } catch (cause) {
      throw diskError("copying", `${from} to ${to}`, cause);
    }
  }
}

function baseConfig(path: string, socketPath: string, { major }: ServerProgram): string[] {
  return [
    `dir ${JSON.stringify(path)}`,
    `unixsocket ${JSON.stringify(socketPath)}`,
    "unixsocketperm 700",
    "daemonize no",
    'logfile ""',
    "loglevel notice",
    'save ""',
    `databases ${DATABASES}`,
    "maxmemory 0",
    "appendonly yes",
    `appendfilename ${SINGLE_FILE}`,
    // A truncated file is an error; it must not be truncated further.
    "aof-load-truncated no",
    "auto-aof-rewrite-percentage 0",
    ...(major < 7 ? [] : [`appenddirname ${APPEND_DIR}`, "enable-debug-command local"]),
  ];
}

function roleConfig(role: StockRole, server: ServerProgram): string[] {
  switch (role.as) {
    case "private":
      return [replicaOfNobody(server), "port 0"];
    case "server":
      return [replicaOfNobody(server), ...listenConfig(role), ...readersConfig(server)];
    case "node":
      return nodeConfig(role, server);
    default:
      return unreachable(role);
  }
}

/**
 * The server runs as a replica of a primary that does not exist. So in every version nothing expires and no
 * client can write, while keys that have expired since are hidden from clients.
 */
function replicaOfNobody({ major }: ServerProgram): string {
  // Nothing listens on port 0; the server retries once per second, which costs nothing.
  return `${major < 5 ? "slaveof" : "replicaof"} 127.0.0.1 0`;
}

function listenConfig({ host, port }: ListenAddress): string[] {
  return [`bind ${host}`, `port ${port}`, "protected-mode yes"];
}

/** What clients of a server since Redis 6 may do: look around, but not run commands that reconfigure or stop it. */
export const READERS = ["+@all", "-@admin", "+client", "+config|get"];

function readersConfig({ major, minor }: ServerProgram): string[] {
  if (major >= 6) {
    const channels = major > 6 || minor >= 2 ? "&* " : "";
    return [`user default on nopass ~* ${channels}${READERS.join(" ")}`];
  }
  const denied = "SLAVEOF CONFIG DEBUG SAVE BGSAVE BGREWRITEAOF SHUTDOWN SYNC PSYNC MODULE MONITOR";
  const names = [...denied.split(" "), ...(major < 5 ? [] : ["REPLICAOF"])];
  return names.map((name) => `rename-command ${name} ""`);
}

/** How long a node may be silent until the others give it up: they share a machine, which may be busy. */
const NODE_TIMEOUT_MS = 5_000;

function nodeConfig(node: StockNode, server: ServerProgram): string[] {
  const { password } = node;
  return [
    ...listenConfig(node),
    "cluster-enabled yes",
    ...(hasClusterDatabases(server) ? [`cluster-databases ${DATABASES}`] : []),
    `cluster-config-file ${NODES_CONF}`,
    `cluster-node-timeout ${NODE_TIMEOUT_MS}`,
    // Before 7.0 it is always this far above the port.
    ...(server.major < 7 ? [] : [`cluster-port ${node.busPort}`]),
    ...(node.isPartial ? ["cluster-require-full-coverage no"] : []),
    // Files are loaded as the default user, who must be allowed everything until then.
    `requirepass ${password}`,
    `masterauth ${password}`,
  ];
}
