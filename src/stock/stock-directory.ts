import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { ReplicaError, usageError } from "../base/errors.ts";
import { diskError } from "../store/disk/disk.ts";
import { MANIFEST } from "../store/generation/layout.ts";
import { APPEND_DIR, type Restored, SINGLE_FILE } from "../store/restore/restore.ts";
import { nameOf, type ServerProgram } from "./server-program.ts";

/** What `replica restore` wrote: the directory and its layout. */
export type RestoredFiles = Pick<Restored, "dir" | "layout">;

/** A TCP address that a server listens on. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** A directory for a stock server to run in. */
export interface StockDirectory {
  readonly path: string;
  readonly socketPath: string;
  readonly listen: ListenAddress | undefined;
  readonly configPath: string;
}

/** An empty file after the restored ones: the only one that the server opens for appending. */
const OPEN_END = "open-end.incr.aof";
/** A unix socket address has 108 bytes on Linux and 104 elsewhere, including the terminating zero. */
const MAX_SOCKET_PATH_BYTES = 103;
/**
 * More than any primary has: if a log selects a database that the server does not have, its commands are
 * loaded into the wrong one. Each database takes up to 4 KB (Redis 8.0).
 */
export const DATABASES = 10_000;

/**
 * Makes a private directory in which a server can run on a restore without ever writing to it. Redis 7
 * and later get links, and a manifest that ends with an empty file; older servers get a copy, because
 * they append to the single file that they load.
 * @param listen where to serve; by default only on a socket in the directory.
 * @throws ReplicaError USAGE, RESTORE_UNUSABLE, DISK_FULL, DISK_FAILED; or the signal's reason. Then no
 * directory is left.
 */
export async function makeStockDirectory(
  restored: RestoredFiles,
  server: ServerProgram,
  signal: AbortSignal,
  listen?: ListenAddress,
): Promise<StockDirectory> {
  refuseMismatch(restored, server);
  const path = makePrivateDirectory();
  try {
    if (server.major < 7) {
      await copyFile(join(restored.dir, SINGLE_FILE), join(path, SINGLE_FILE), signal);
    } else {
      makeLinks(restored, join(path, APPEND_DIR));
    }
    const socketPath = join(path, "s");
    const configPath = join(path, "server.conf");
    const config = [
      ...baseConfig(path, socketPath, server),
      ...(listen === undefined ? ["port 0"] : listenConfig(listen, server)),
    ];
    fs.writeFileSync(configPath, config.map((line) => `${line}\n`).join(""), { mode: 0o600 });
    return { path, socketPath, configPath, listen };
  } catch (cause) {
    await removeStockDirectory(path);
    if (signal.aborted) throw signal.reason;
    throw diskError("preparing a server's directory in", path, cause);
  }
}

/** Removes the directory, without following the links in it. */
export async function removeStockDirectory(path: string): Promise<void> {
  await fs.promises.rm(path, { recursive: true, force: true });
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

/** Made with mode 0700, because the socket in it asks for no password. */
function makePrivateDirectory(): string {
  // A long TMPDIR would leave no room for the name of a socket.
  for (const root of new Set([tmpdir(), "/tmp"])) {
    const prefix = join(resolve(root), "replica-stock-");
    // mkdtemp adds six characters; the socket is "/s".
    if (Buffer.byteLength(prefix) + 8 > MAX_SOCKET_PATH_BYTES) continue;
    try {
      return fs.mkdtempSync(prefix);
    } catch (cause) {
      throw diskError("making a directory in", root, cause);
    }
  }
  throw new ReplicaError("DISK_FAILED", {
    retry: "never",
    message: `${tmpdir()} is too long for the path of a unix socket: set TMPDIR to a shorter one`,
  });
}

function makeLinks({ dir, layout }: RestoredFiles, appendDir: string): void {
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
  fs.writeFileSync(join(appendDir, OPEN_END), "");
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

/**
 * The server runs as a replica of a primary that does not exist. So in every version nothing expires and no
 * client can write, while keys that have expired since are hidden from clients.
 */
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
    // Nothing listens on port 0; the server retries once per second, which costs nothing.
    `${major < 5 ? "slaveof" : "replicaof"} 127.0.0.1 0`,
    ...(major < 7 ? [] : [`appenddirname ${APPEND_DIR}`, "enable-debug-command local"]),
  ];
}

/** Clients may look around, but not run commands that reconfigure or stop the server. */
function listenConfig({ host, port }: ListenAddress, { major, minor }: ServerProgram): string[] {
  const listening = [`bind ${host}`, `port ${port}`, "protected-mode yes"];
  if (major >= 6) {
    const channels = major > 6 || minor >= 2 ? "&* " : "";
    return [...listening, `user default on nopass ~* ${channels}+@all -@admin +client +config|get`];
  }
  const denied = "SLAVEOF CONFIG DEBUG SAVE BGSAVE BGREWRITEAOF SHUTDOWN SYNC PSYNC MODULE MONITOR";
  const names = [...denied.split(" "), ...(major < 5 ? [] : ["REPLICAOF"])];
  return [...listening, ...names.map((name) => `rename-command ${name} ""`)];
}
