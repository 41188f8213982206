import { rename } from "node:fs/promises";
import { join } from "node:path";
import { ReplicaError } from "../base/errors.ts";
import { listenFailure } from "../base/listen-failure.ts";
import { printableAscii } from "../base/printable.ts";
import { type DatabaseKeys, parseInfo, parseKeyspace } from "../resp/info-text.ts";
import { ServerClient } from "./server-client.ts";
import { serverEnvironment, nameOf, type ServerProgram } from "./server-program.ts";
import { stockFailure } from "./stock-failure.ts";
import {
  makeStockDirectory,
  type RestoredFiles,
  type StockDirectory,
  type StockRole,
} from "./stock-directory.ts";

/** How often to ask for the progress of the load. */
const LOOK_EVERY_MS = 50;
/** The server has nothing to write, and this program must stop within 2 s. */
const STOP_TIMEOUT_MS = 1_000;
/** INFO with 10,000 databases has about 600 KB. */
const MAX_REPLY_BYTES = 16 * 1024 * 1024;
/** How much of the server's last output to keep for quoting; a crash report is long. */
const KEPT_LINES = 1_000;
const KEPT_LINE_CHARACTERS = 1_000;
const QUOTED_CHARACTERS = 200;
/** What a server says while it loads ("Redis 7, db.c": selectCommand). */
const REFUSED_DATABASE = "SELECT is not allowed in cluster mode";
/** What it logs of a command that it refuses while it loads, and then goes on ("Redis 7.0, networking.c": afterErrorReply). */
const REFUSED_COMMAND =
  /error to its AOF-loading-client: '(.*)' after processing the command '([^']*)'/;
/** A script that failed is streamed for what it did before, and services add options of their own to REPLCONF. */
const MAY_FAIL = new Set(["eval", "evalsha", "fcall", "replconf"]);
/** How an error ends that a script met: in a transaction the server logs EXEC as the command ("Redis 7.0, script_lua.c"). */
const OF_SCRIPT = / script: (?:.*, )?on @user_(?:script|function):\d+\.$/;
/** What a server says once it has loaded everything, before it answers that ("Redis 7, server.c": main). */
const READY = "eady to accept connections";
/** How long to wait for that: where the program is a script, its server may log elsewhere. */
const READY_TIMEOUT_MS = 2_000;
/** Where a server saves by default, in its folder (`dbfilename`). */
const DUMP = "dump.rdb";
/** Another process may take a free port before the server does. */
const PORT_ATTEMPTS = 5;

/** The progress of a load, in bytes of the files. */
export type LoadProgress = (loadedBytes: number, totalBytes: number) => void;

/** What a stock server reports about a restore. */
export interface CheckResult {
  /** Databases with keys, as of the restored moment: keys that have expired since are counted. */
  readonly databases: readonly DatabaseKeys[];
  /** DEBUG DIGEST over all keys, values and expiry times; equal data has equal digests. */
  readonly digest: string | undefined;
}

/**
 * Starts a stock server on a restore, reachable over a unix socket only, and asks what it has loaded. The
 * restored files don't change. Once this settles, the server and its directory are gone.
 * @param options.signal stops it; its reason is thrown.
 * @throws ReplicaError RESTORE_UNUSABLE if the server can't load the files, or passes over a command of theirs;
 * SERVER_FAILED if it fails for another reason, USAGE if it can't read the layout.
 */
export async function checkRestored(
  restored: RestoredFiles,
  server: ServerProgram,
  options: {
    readonly digest: boolean;
    readonly signal: AbortSignal;
    readonly onProgress?: LoadProgress;
  },
): Promise<CheckResult> {
  const running = await StockServer.boot(restored, server, options.signal, {
    as: "private",
  });
  let found: CheckResult;
  try {
    await running.loaded(options.onProgress);
    const keyspace = await running.ask("INFO", "keyspace");
    found = {
      databases: parseKeyspace(keyspace),
      digest: options.digest ? await running.ask("DEBUG", "DIGEST") : undefined,
    };
  } finally {
    await running.stop();
  }
  running.refusePassedOver();
  return found;
}

/** A running server that clients can read from. */
export interface ServedRestored {
  readonly port: number;
  /** Resolves once the signal has stopped it; rejects if it ends by itself. */
  readonly ended: Promise<void>;
}

/**
 * Starts a stock server on a restore for clients to read from: neither commands nor scripts can write. As in
 * any replica, keys that have expired since are hidden. Resolves once everything is loaded.
 * @param options.port 0 picks a free one.
 * @param options.host a loopback address; the server itself refuses clients on any other.
 * @param options.signal stops it within 2 s; until everything is loaded, its reason is thrown.
 * @throws ReplicaError as `checkRestored`, and PORT_IN_USE.
 */
export async function serveRestored(
  restored: RestoredFiles,
  server: ServerProgram,
  options: {
    readonly port: number;
    readonly host?: string;
    readonly signal: AbortSignal;
    readonly onProgress?: LoadProgress;
  },
): Promise<ServedRestored> {
  const { signal, host = "127.0.0.1" } = options;
  for (let left = PORT_ATTEMPTS - 1; ; left -= 1) {
    const port = options.port === 0 ? freePort(host) : options.port;
    const running = await StockServer.boot(restored, server, signal, { as: "server", host, port });
    try {
      await running.loaded(options.onProgress);
      running.refusePassedOver();
      return { port, ended: running.ended() };
    } catch (error) {
      await running.stop();
      const isTaken = error instanceof ReplicaError && error.code === "PORT_IN_USE";
      if (!isTaken || options.port !== 0 || left === 0) throw error;
    }
  }
}

/**
 * Refuses a port that is taken at this moment, before any work is done; 0 never is.
 * @throws ReplicaError PORT_IN_USE, LISTEN_FAILED.
 */
export function refuseTaken(port: number, hostname = "127.0.0.1"): void {
  if (port === 0) return;
  try {
    Bun.listen({ hostname, port, socket: { data: () => undefined } }).stop(true);
  } catch (cause) {
    const attempt = { what: "listen", addressFlag: "--serve", portFlag: "--serve" } as const;
    throw listenFailure({ host: hostname, port }, attempt, cause);
  }
}

/** A port that nobody listens on at this moment. */
export function freePort(hostname: string): number {
  const listener = Bun.listen({ hostname, port: 0, socket: { data: () => undefined } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

/** A stock server with its own directory, which is removed with it. */
export class StockServer implements AsyncDisposable {
  readonly #restored: RestoredFiles;
  readonly #program: ServerProgram;
  readonly #directory: StockDirectory;
  readonly #signal: AbortSignal;
  readonly #child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly #drained: Promise<unknown>;
  /** Rejects when the server has ended or should end. */
  readonly #over: Promise<never>;
  readonly #onAbort: () => void;
  #lines: string[] = [];
  /** Whether it has begun to load the files. */
  #hasBegun = false;
  #hasLoaded = false;
  /** Whether the files select a database that it doesn't have as a node of a cluster; it goes on in another one. */
  #wasRefusedDatabase = false;
  #refused: string | undefined;
  /** Resolves once what it said of the load has been read. */
  readonly #isReady = Promise.withResolvers<void>();
  #client: ServerClient | undefined;

  private constructor(
    restored: RestoredFiles,
    program: ServerProgram,
    directory: StockDirectory,
    signal: AbortSignal,
  ) {
    this.#restored = restored;
    this.#program = program;
    this.#directory = directory;
    this.#signal = signal;
    this.#child = Bun.spawn([...program.argv, directory.configPath], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      cwd: directory.path,
      env: serverEnvironment(),
      // In its own process group, so that Ctrl-C reaches only this process, which then stops the group.
      detached: true,
    });
    this.#drained = Promise.all([
      this.#keepLines(this.#child.stdout),
      this.#keepLines(this.#child.stderr),
    ]);
    const aborted = Promise.withResolvers<never>();
    this.#onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener("abort", this.#onAbort);
    this.#over = Promise.race([aborted.promise, this.#child.exited.then(() => this.#failed())]);
    this.#over.catch(() => {
      // Callers that wait for the server see the rejection; at times there are none.
    });
  }

  /** Starts a server, which may not answer yet. @throws ReplicaError as `makeStockDirectory`, and SERVER_FAILED. */
  static async boot(
    restored: RestoredFiles,
    program: ServerProgram,
    signal: AbortSignal,
    role: StockRole,
  ): Promise<StockServer> {
    signal.throwIfAborted();
    const directory = await makeStockDirectory(restored, program, signal, role);
    try {
      signal.throwIfAborted();
      return new StockServer(restored, program, directory, signal);
    } catch (cause) {
      await directory.remove();
      if (signal.aborted) throw signal.reason;
      throw new ReplicaError("SERVER_FAILED", {
        retry: "never",
        message: `${nameOf(program)} can't be started: ${cause instanceof Error ? cause.message : String(cause)}; give another one with --server`,
        cause,
      });
    }
  }

  get wasRefusedDatabase(): boolean {
    return this.#wasRefusedDatabase;
  }

  /**
   * Refuses a load in which the server passed over a command that had taken effect at the primary: then its keys are others.
   * Call it once everything is loaded.
   * @throws ReplicaError RESTORE_UNUSABLE.
   */
  refusePassedOver(): void {
    if (this.#refused === undefined) return;
    throw new ReplicaError("RESTORE_UNUSABLE", {
      retry: "never",
      message: `${nameOf(this.#program)} passed over a command while it loaded, so that keys may be wrong: ${this.#refused}; give a server like the primary with --server`,
    });
  }

  /** Waits until everything is loaded, however long that takes. */
  async loaded(onProgress: LoadProgress = () => undefined): Promise<void> {
    for (;;) {
      const info = parseInfo(await this.ask("INFO", "persistence"));
      if (info.get("loading") === "0") break;
      const totalBytes = Number(info.get("loading_total_bytes") ?? 0);
      onProgress(Number(info.get("loading_loaded_bytes") ?? 0), totalBytes);
      await this.running(Bun.sleep(LOOK_EVERY_MS));
    }
    await this.#readLog();
    this.#hasLoaded = true;
  }

  /** What it logs comes by another way than its replies, and may come later. */
  async #readLog(): Promise<void> {
    const timer = setTimeout(this.#isReady.resolve, READY_TIMEOUT_MS);
    try {
      await this.running(this.#isReady.promise);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends a command and returns the reply's text. @throws ReplicaError SERVER_FAILED, or why the server ended. */
  async ask(...words: string[]): Promise<string> {
    const client = (this.#client ??= await this.#connect());
    const reply = await this.running(client.ask(...words));
    if (!reply.isError) return reply.text;
    throw new ReplicaError("SERVER_FAILED", {
      retry: "never",
      message: `${nameOf(this.#program)} answers ${words.join(" ")} with: ${reply.text}`,
    });
  }

  /**
   * Lets the server write what it has loaded as an RDB to `path`, on the file system of private directories: every key, also
   * those that have expired since (from Redis 5 on).
   */
  async save(path: string): Promise<void> {
    await this.ask("SAVE");
    await rename(join(this.#directory.path, DUMP), path);
  }

  /** Settles when the server ends; see `ServedRestored`. */
  async ended(): Promise<void> {
    try {
      await this.#over;
    } catch (error) {
      if (!this.#signal.aborted) throw error;
    } finally {
      await this.stop();
    }
  }

  /** Stops the server if it is still running, and removes its directory. */
  async stop(): Promise<void> {
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#client?.close();
    this.#signalAll("SIGTERM");
    const timer = setTimeout(() => this.#signalAll("SIGKILL"), STOP_TIMEOUT_MS);
    await this.#child.exited;
    clearTimeout(timer);
    await this.#drained;
    await this.#directory.remove();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #connect(): Promise<ServerClient> {
    for (;;) {
      try {
        const client = await this.running(
          ServerClient.connect({ unix: this.#directory.socketPath }, MAX_REPLY_BYTES),
        );
        const { role } = this.#directory;
        if (role.as === "node") {
          await this.running(client.ask("AUTH", role.password));
        }
        return client;
      } catch (error) {
        if (!(error instanceof ReplicaError && error.code === "CONNECT_FAILED")) throw error;
      }
      await this.running(Bun.sleep(LOOK_EVERY_MS));
    }
  }

  /** The result of `work`; throws if the server ends first or should end. */
  async running<T>(work: Promise<T>): Promise<T> {
    try {
      return await Promise.race([work, this.#over]);
    } catch (error) {
      // A broken connection is the first sign of the server's end; the reason follows a moment later.
      const isBroken = error instanceof ReplicaError && error.code === "CONNECT_FAILED";
      if (isBroken && this.#client !== undefined) return await this.#over;
      throw error;
    }
  }

  #signalAll(name: NodeJS.Signals): void {
    try {
      process.kill(-this.#child.pid, name);
    } catch {
      // All its processes have ended.
    }
  }

  async #keepLines(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    let unfinished = "";
    for await (const chunk of stream) {
      const lines = (unfinished + decoder.decode(chunk, { stream: true })).split("\n");
      unfinished = (lines.pop() ?? "").slice(0, KEPT_LINE_CHARACTERS);
      this.#hasBegun ||= lines.some((line) => line.includes("Server initialized"));
      this.#wasRefusedDatabase ||= lines.some((line) => line.includes(REFUSED_DATABASE));
      for (const line of lines) this.#refused ??= refusedIn(line);
      if (lines.some((line) => line.includes(READY))) this.#isReady.resolve();
      this.#lines = [...this.#lines, ...lines].slice(-KEPT_LINES);
    }
    this.#lines.push(unfinished);
  }

  /** Throws why the server has ended. */
  async #failed(): Promise<never> {
    // If the program was a script, the server that it started may still run.
    this.#signalAll("SIGKILL");
    await this.#drained;
    const { role, socketPath } = this.#directory;
    throw stockFailure(this.#restored, this.#program, {
      address: role.as === "private" ? socketPath : `${role.host}:${role.port}`,
      lines: this.#lines,
      exitCode: this.#child.exitCode,
      signalCode: this.#child.signalCode === null ? null : String(this.#child.signalCode),
      hasBegun: this.#hasBegun,
      hasLoaded: this.#hasLoaded,
    });
  }
}

/** What a line of the server's log says of a command that it passed over. */
function refusedIn(line: string): string | undefined {
  const [, said = "", command = ""] = REFUSED_COMMAND.exec(line) ?? [];
  if (command === "" || MAY_FAIL.has(command.toLowerCase())) return undefined;
  if (command.toLowerCase() === "exec" && OF_SCRIPT.test(said)) return undefined;
  return `${printableAscii(said.trim(), QUOTED_CHARACTERS)} (${printableAscii(command.toUpperCase(), QUOTED_CHARACTERS)})`;
}
