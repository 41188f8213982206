import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
} from "node:fs";
import { basename, join } from "node:path";
import { endWithProcess, endingWithParent } from "./children.ts";
import { freePort } from "./ports.ts";
import { type RespAddress, RespClient } from "./resp-client.ts";
import { type Reply, ReplyError } from "./resp.ts";
import { runProgram } from "./run-program.ts";
import {
  HOW_TO_GET_SERVERS,
  SERVER_KINDS,
  type ServerKind,
  type ServerTool,
  readStamp,
  serverDir,
  toolCommand,
  unavailableReason,
} from "./server-catalog.ts";
import { type TempDir, tempDir } from "./temp.ts";
import { certificates } from "./tls.ts";
import { PATIENCE_MS, until } from "./wait.ts";

export { SERVER_KINDS, type ServerKind, type ServerTool } from "./server-catalog.ts";

const STOP_TIMEOUT_MS = 10_000;
/** The digest of a million keys takes its time on a busy machine. */
const REPLY_TIMEOUT_MS = 300_000;
const PORT_ATTEMPTS = 5;

export interface ServerOptions {
  /** More arguments, which override the defaults: `["--save", "60 1"]`. */
  readonly args?: readonly string[];
  /** Default: a free port. */
  readonly port?: number;
  readonly password?: string;
  /** Adds a TLS port with the test certificate; `clients`: whether clients need one, too. */
  readonly tls?: { readonly clients: "no" | "optional" | "yes" };
  /** Adds a unix socket. */
  readonly unixSocket?: boolean;
  /** Milliseconds until it must answer, loading included. Default: 60 s. */
  readonly startTimeoutMs?: number;
}

/** Whether a server has been fetched. */
export function installed(kind: ServerKind): boolean {
  return readStamp(kind) !== undefined;
}

/** The servers that have been fetched, oldest first. */
export function availableServers(): ServerKind[] {
  return SERVER_KINDS.filter((kind) => installed(kind));
}

/** The exact version of a server: "7.0.15". @throws Error if it wasn't fetched. */
export function serverVersion(kind: ServerKind): string {
  return stampOf(kind).version;
}

/**
 * Returns the command line of one of a server's programs, to which arguments are appended. Redis's names
 * stand for Valkey's too.
 * @throws Error that says how to get the server, if it wasn't fetched.
 */
export function tool(kind: ServerKind, name: ServerTool): string[] {
  return toolCommand(serverDir(kind), stampOf(kind), name);
}

function stampOf(kind: ServerKind) {
  const stamp = readStamp(kind);
  if (stamp !== undefined) return stamp;
  const reason = unavailableReason(kind);
  throw new Error(
    `${kind} is not here${reason === undefined ? "" : ` (${reason})`}: ${HOW_TO_GET_SERVERS}`,
  );
}

/**
 * Starts a real server on a free loopback port, in its own folder, without persistence and without the
 * delay before a diskless sync. It answers PING when this resolves. It ends with `await using`, with
 * `stop()`, and with this process.
 * @throws Error with the server's log if it doesn't start.
 */
export async function startServer(
  kind: ServerKind,
  options: ServerOptions = {},
): Promise<RealServer> {
  const dir = tempDir(kind);
  try {
    return await RealServer.start(kind, dir, options);
  } catch (error) {
    dir.remove();
    throw error;
  }
}

/**
 * Starts a stock server on a copy of an append-only directory (manifest, base and incr files), as an
 * operator would. It has loaded everything when this resolves.
 * @throws Error with the server's log if it refuses the files.
 */
export async function bootCopy(
  kind: ServerKind,
  generationDir: string,
  options: ServerOptions = {},
): Promise<RealServer> {
  const dir = tempDir(`${kind}-copy`);
  try {
    const name = "generation";
    mkdirSync(dir.file(name));
    for (const file of readdirSync(generationDir)) {
      if (!file.startsWith("appendonly.aof")) continue;
      const target = dir.file(name, file);
      copyFileSync(join(generationDir, file), target, constants.COPYFILE_FICLONE);
      chmodSync(target, 0o644);
    }
    const args = ["--appendonly", "yes", "--appenddirname", name];
    args.push("--auto-aof-rewrite-percentage", "0", ...(options.args ?? []));
    return await RealServer.start(kind, dir, { ...options, args });
  } catch (error) {
    dir.remove();
    throw error;
  }
}

/**
 * Starts a stock server in a copy of a whole server folder, with `appendonlydir/`, `appendonly.aof` or
 * `dump.rdb`; `args` decide what it loads.
 */
export async function bootCopyOfDir(
  kind: ServerKind,
  serverFolder: string,
  options: ServerOptions = {},
): Promise<RealServer> {
  const dir = tempDir(`${kind}-copy`);
  try {
    for (const name of readdirSync(serverFolder)) {
      const clone = { recursive: true, mode: constants.COPYFILE_FICLONE };
      cpSync(join(serverFolder, name), dir.file(basename(name)), clone);
    }
    return await RealServer.start(kind, dir, options);
  } catch (error) {
    dir.remove();
    throw error;
  }
}

interface Running {
  readonly child: Bun.Subprocess;
  client: RespClient | undefined;
}

/** A real server process. */
export class RealServer implements AsyncDisposable {
  readonly kind: ServerKind;
  readonly host = "127.0.0.1";
  readonly port: number;
  readonly tlsPort: number | undefined;
  readonly socketPath: string | undefined;
  readonly password: string | undefined;
  readonly #dir: TempDir;
  readonly #args: readonly string[];
  readonly #startTimeoutMs: number;
  readonly #tlsClients: "no" | "optional" | "yes" | undefined;
  #running: Running | undefined;

  private constructor(kind: ServerKind, dir: TempDir, port: number, options: ServerOptions) {
    this.kind = kind;
    this.#dir = dir;
    this.port = port;
    this.tlsPort = options.tls === undefined ? undefined : freePort();
    this.socketPath = options.unixSocket === true ? dir.file("redis.sock") : undefined;
    this.password = options.password;
    this.#args = options.args ?? [];
    this.#startTimeoutMs = options.startTimeoutMs ?? PATIENCE_MS;
    this.#tlsClients = options.tls?.clients;
  }

  /** See `startServer`; the server owns `dir` from here on. */
  static async start(kind: ServerKind, dir: TempDir, options: ServerOptions): Promise<RealServer> {
    for (let left = PORT_ATTEMPTS - 1; ; left--) {
      const server = new RealServer(kind, dir, options.port ?? freePort(), options);
      try {
        await server.#launch([]);
        return server;
      } catch (error) {
        // Another process may have taken the port meanwhile.
        const taken = server.log().includes("Address already in use");
        if (!taken || options.port !== undefined || left === 0) throw error;
      }
    }
  }

  get pid(): number {
    return this.#alive().child.pid;
  }

  /** The server's working folder: `dump.rdb`, `appendonlydir`. */
  get dir(): string {
    return this.#dir.path;
  }

  get isRunning(): boolean {
    return this.#running !== undefined && this.#running.child.exitCode === null;
  }

  /** The URL with the password: `redis://`, or with `"tls"` `rediss://`, with `"unix"` `unix://`. */
  url(way: "tcp" | "tls" | "unix" = "tcp"): string {
    const login = this.password === undefined ? "" : `:${encodeURIComponent(this.password)}@`;
    if (way === "tcp") return `redis://${login}${this.host}:${this.port}`;
    if (way === "unix" && this.socketPath !== undefined) return `unix://${this.socketPath}`;
    if (way === "tls" && this.tlsPort !== undefined) {
      return `rediss://${login}${this.host}:${this.tlsPort}`;
    }
    throw new Error(`this server was started without ${way}`);
  }

  /** The server's log, over all its starts. */
  log(): string {
    const path = this.#dir.file("server.log");
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  /** The address for a separate client: `RespClient.connect(server.address)`. */
  get address(): RespAddress {
    const login = this.password === undefined ? {} : { password: this.password };
    return { host: this.host, port: this.port, ...login };
  }

  /** A new connection, logged in. */
  async connect(): Promise<RespClient> {
    return await RespClient.connect(this.address);
  }

  /** Sends a command on the server's own connection. @throws ReplyError */
  async send(command: string, ...args: (string | number | Uint8Array)[]): Promise<Reply> {
    const client = await this.#client();
    return await client.send(command, ...args);
  }

  /** Sends a pipeline on the server's own connection. @throws ReplyError the first error reply. */
  async sendAll(
    commands: readonly (readonly (string | number | Uint8Array)[])[],
  ): Promise<Reply[]> {
    const client = await this.#client();
    const replies = await client.exchange(commands);
    const error = replies.find((reply) => reply instanceof ReplyError);
    if (error instanceof ReplyError) throw error;
    return replies;
  }

  /** Runs redis-cli on the server; returns its output. @throws Error if it fails. */
  async cli(...args: string[]): Promise<string> {
    const argv = [...tool(this.kind, "redis-cli"), "-h", this.host, "-p", String(this.port)];
    const { stdout, stderr, exitCode } = await runProgram(endingWithParent([...argv, ...args]), {
      env: { ...process.env, ...(this.password ? { REDISCLI_AUTH: this.password } : {}) },
    });
    if (exitCode !== 0)
      throw new Error(`redis-cli ${args.join(" ")}: ${(stderr || stdout).trim()}`);
    return stdout.trimEnd();
  }

  /** The fields of INFO, by name. */
  async info(section = "default"): Promise<Record<string, string>> {
    const text = await this.send("INFO", section);
    const fields: Record<string, string> = {};
    for (const line of String(text).split("\r\n")) {
      const colon = line.indexOf(":");
      if (colon > 0 && !line.startsWith("#")) fields[line.slice(0, colon)] = line.slice(colon + 1);
    }
    return fields;
  }

  /** The replication offset of the last byte in the server's stream. */
  async offset(): Promise<number> {
    return Number((await this.info("replication"))["master_repl_offset"]);
  }

  /** As a replica: waits until it has all of the stream that the server at `port` has by now. */
  async suppliedFrom(port: number): Promise<void> {
    await using other = await RespClient.connect({ port });
    const field = (info: string, name: string) =>
      new RegExp(`^${name}:(.*)\\r?$`, "m").exec(info)?.[1]?.trim() ?? "";
    const info = String(await other.send("INFO", "replication"));
    const end = Number(field(info, "master_repl_offset"));
    await until(
      async () => {
        const own = await this.info("replication");
        const { master_link_status: link, slave_repl_offset: offset } = own;
        return link === "up" && Number(offset) >= end;
      },
      { what: `the stream up to offset ${end}` },
    );
  }

  /**
   * Waits until so many replicas have acknowledged the stream up to its current end. WAIT would cover only
   * the writes of its own connection.
   */
  async acknowledgedBy(replicas: number): Promise<void> {
    const end = await this.offset();
    const hasAll = (slave: string) => Number(/,offset=(\d+),/.exec(slave)?.[1] ?? -1) >= end;
    await until(
      async () => {
        const fields = Object.entries(await this.info("replication"));
        const slaves = fields.filter(([name]) => /^slave\d+$/.test(name));
        return slaves.filter(([, slave]) => hasAll(slave)).length >= replicas;
      },
      { what: `${replicas} replicas to acknowledge offset ${end}` },
    );
  }

  /** DEBUG DIGEST: covers the keys, values and expiries of all databases. */
  async digest(): Promise<string> {
    return String(await this.send("DEBUG", "DIGEST"));
  }

  /** Keys per database: `{ 0: 1200, 9: 3 }`. */
  async keysPerDatabase(): Promise<Record<number, number>> {
    const keys: Record<number, number> = {};
    for (const [name, value] of Object.entries(await this.info("keyspace"))) {
      const database = /^db(\d+)$/.exec(name)?.[1];
      const count = /keys=(\d+)/.exec(value)?.[1];
      if (database !== undefined && count !== undefined) keys[Number(database)] = Number(count);
    }
    return keys;
  }

  /** Sends SIGTERM and waits for the end; SIGKILL after 10 s. */
  async stop(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    this.#running = undefined;
    running.client?.close();
    // A frozen process would not see the signal.
    running.child.kill("SIGCONT");
    running.child.kill("SIGTERM");
    const timer = setTimeout(() => {
      running.child.kill("SIGKILL");
    }, STOP_TIMEOUT_MS);
    await running.child.exited;
    clearTimeout(timer);
  }

  /** Kills it, as a crash would. */
  async kill9(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    this.#running = undefined;
    running.child.kill("SIGKILL");
    await running.child.exited;
    running.client?.close();
  }

  /** Suspends the process, as if its machine hung; `thaw` resumes it. */
  freeze(): void {
    this.#alive().child.kill("SIGSTOP");
  }

  thaw(): void {
    this.#alive().child.kill("SIGCONT");
  }

  /** Stops it if it runs, and starts it on the same port and folder. */
  async restart(options: { readonly args?: readonly string[] } = {}): Promise<void> {
    await this.stop();
    await this.#launch(options.args ?? []);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#dir.remove();
  }

  #alive(): Running {
    if (this.#running === undefined) throw new Error(`the ${this.kind} server isn't running`);
    return this.#running;
  }

  async #client(): Promise<RespClient> {
    const running = this.#alive();
    if (running.client === undefined || running.client.isClosed) {
      const address = { ...this.address, timeoutMs: REPLY_TIMEOUT_MS };
      running.client = await RespClient.connect(address);
    }
    return running.client;
  }

  #commandLine(moreArgs: readonly string[]): string[] {
    const argv = tool(this.kind, "redis-server");
    argv.push("--port", String(this.port), "--bind", this.host, "--dir", this.dir);
    argv.push("--save", "", "--appendonly", "no", "--enable-debug-command", "yes");
    argv.push("--repl-diskless-sync-delay", "0", "--daemonize", "no", "--logfile", "");
    if (this.password !== undefined) {
      argv.push("--requirepass", this.password, "--masterauth", this.password);
    }
    if (this.socketPath !== undefined) {
      argv.push("--unixsocket", this.socketPath, "--unixsocketperm", "700");
    }
    if (this.tlsPort !== undefined) {
      argv.push("--tls-port", String(this.tlsPort), "--tls-ca-cert-file", certificates.ca);
      argv.push("--tls-cert-file", certificates.server.cert);
      argv.push("--tls-key-file", certificates.server.key);
      argv.push("--tls-auth-clients", this.#tlsClients ?? "no");
    }
    return [...argv, ...this.#args, ...moreArgs];
  }

  async #launch(moreArgs: readonly string[]): Promise<void> {
    const logStart = this.log().length;
    const log = openSync(this.#dir.file("server.log"), "a");
    const child = Bun.spawn(endingWithParent(this.#commandLine(moreArgs)), {
      stdin: "ignore",
      stdout: log,
      stderr: log,
      cwd: this.dir,
      env: process.env,
    });
    closeSync(log);
    endWithProcess(child);
    const running: Running = { child, client: undefined };
    this.#running = running;
    let ended = false;
    try {
      await until(
        async () => {
          if (child.exitCode !== null || child.signalCode !== null) {
            ended = true;
            return true;
          }
          const client = await this.#client();
          return (await client.send("PING")) === "PONG";
        },
        { timeoutMs: this.#startTimeoutMs, what: `${this.kind} to answer PING` },
      );
      if (ended) throw new Error(`${this.kind} ended while starting`);
    } catch (error) {
      await this.kill9();
      const why = error instanceof Error ? error.message : String(error);
      throw new Error(`${why}; its log:\n${this.log().slice(logStart).slice(-8000)}`, {
        cause: error,
      });
    }
  }
}
