import { ReplicaError } from "../base/errors.ts";
import { type DatabaseKeys, parseInfo, parseKeyspace } from "../resp/info-text.ts";
import { Asker } from "./asker.ts";
import { foreignEnvironment, nameOf, type ServerProgram } from "./server-program.ts";
import { stockFailure } from "./stock-failure.ts";
import {
  layStockFolder,
  type ListenAddress,
  removeStockFolder,
  type RestoredFolder,
  type StockFolder,
} from "./stock-folder.ts";

/** Between two looks at how far the load is. */
const LOOK_EVERY_MS = 50;
/** It has nothing to write; an end of ours may take 2 s. */
const STOP_TIMEOUT_MS = 1_000;
/** INFO of 10,000 databases takes some 600 KB. */
const MAX_REPLY_BYTES = 16 * 1024 * 1024;
/** How much of what the server says last is kept, to quote from: the report of a crash is long. */
const KEPT_LINES = 1_000;
const KEPT_LINE_CHARACTERS = 1_000;
/** Between our asking for a free port and the server's taking it, somebody else may. */
const PORT_ATTEMPTS = 5;

/** How far a load is; both are bytes of files. */
export type LoadProgress = (loadedBytes: number, totalBytes: number) => void;

/** What a stock server says of what was restored. */
export interface CheckResult {
  /** Those that hold a key, as of the restored moment: keys that have expired since are counted. */
  readonly databases: readonly DatabaseKeys[];
  /** DEBUG DIGEST: one value for all keys, values and expiries; equal data, equal digest. */
  readonly digest: string | undefined;
}

/**
 * Boots a stock server on what was restored, over a unix socket alone, and asks what it has loaded.
 * The restored files stay as they are. Server and temporary folder are gone when this settles.
 * @param options.signal ends it; it throws what that was aborted with.
 * @throws ReplicaError RESTORE_UNUSABLE where the server doesn't load it, SERVER_FAILED where that
 * is no fault of the files, USAGE where the server can't read the layout.
 */
export async function checkRestored(
  restored: RestoredFolder,
  server: ServerProgram,
  options: {
    readonly digest: boolean;
    readonly signal: AbortSignal;
    readonly onProgress?: LoadProgress;
  },
): Promise<CheckResult> {
  await using running = await StockServer.boot(restored, server, options.signal);
  await running.loaded(options.onProgress);
  const keyspace = await running.ask("INFO", "keyspace");
  return {
    databases: parseKeyspace(keyspace),
    digest: options.digest ? await running.ask("DEBUG", "DIGEST") : undefined,
  };
}

/** A server that clients can look around in. */
export interface ServedRestored {
  readonly port: number;
  /** Resolves once the signal has ended it; rejects where it ended by itself. */
  readonly ended: Promise<void>;
}

/**
 * Boots a stock server on what was restored, for clients to read: nothing can be written, neither by
 * a command nor by a script. As in any replica, keys that have expired since are hidden.
 * @param options.port 0 picks a free one.
 * @param options.host a loopback address; at another one the server itself lets nobody in.
 * @param options.signal ends it, within 2 s; until it has loaded, this then throws what the signal
 * was aborted with.
 * @returns once everything is loaded.
 * @throws ReplicaError as `checkRestored`, and PORT_IN_USE.
 */
export async function serveRestored(
  restored: RestoredFolder,
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
    const running = await StockServer.boot(restored, server, signal, { host, port });
    try {
      await running.loaded(options.onProgress);
      return { port, ended: running.ended() };
    } catch (error) {
      await running.stop();
      const isTaken = error instanceof ReplicaError && error.code === "PORT_IN_USE";
      if (!isTaken || options.port !== 0 || left === 0) throw error;
    }
  }
}

function freePort(hostname: string): number {
  const listener = Bun.listen({ hostname, port: 0, socket: { data: () => undefined } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

/** One stock server in a folder of its own, both of which go together. */
class StockServer implements AsyncDisposable {
  readonly #restored: RestoredFolder;
  readonly #program: ServerProgram;
  readonly #folder: StockFolder;
  readonly #signal: AbortSignal;
  readonly #child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly #drained: Promise<unknown>;
  /** Rejects when the server has ended, or is to end. */
  readonly #over: Promise<never>;
  readonly #onAbort: () => void;
  #lines: string[] = [];
  /** Whether it has come to the files. */
  #hasBegun = false;
  #hasLoaded = false;
  #asker: Asker | undefined;

  private constructor(
    restored: RestoredFolder,
    program: ServerProgram,
    folder: StockFolder,
    signal: AbortSignal,
  ) {
    this.#restored = restored;
    this.#program = program;
    this.#folder = folder;
    this.#signal = signal;
    this.#child = Bun.spawn([...program.argv, folder.configPath], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      cwd: folder.path,
      env: foreignEnvironment(),
      // A group of its own: Ctrl-C in a terminal reaches us alone, and we end all of it.
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
      // Whoever waits for the server is told; nobody may be waiting just now.
    });
  }

  /** Starts it; it may not answer yet. @throws ReplicaError as `layStockFolder`, and SERVER_FAILED. */
  static async boot(
    restored: RestoredFolder,
    program: ServerProgram,
    signal: AbortSignal,
    listen?: ListenAddress,
  ): Promise<StockServer> {
    signal.throwIfAborted();
    const folder = await layStockFolder(restored, program, signal, listen);
    try {
      signal.throwIfAborted();
      return new StockServer(restored, program, folder, signal);
    } catch (cause) {
      await removeStockFolder(folder.path);
      if (signal.aborted) throw signal.reason;
      throw new ReplicaError("SERVER_FAILED", {
        retry: "never",
        message: `${nameOf(program)} can't be started: ${cause instanceof Error ? cause.message : cause}; name another one with --server`,
        cause,
      });
    }
  }

  /** Waits until it has loaded everything, however long that takes. */
  async loaded(onProgress: LoadProgress = () => undefined): Promise<void> {
    for (;;) {
      const info = parseInfo(await this.ask("INFO", "persistence"));
      if (info.get("loading") === "0") break;
      const totalBytes = Number(info.get("loading_total_bytes") ?? 0);
      onProgress(Number(info.get("loading_loaded_bytes") ?? 0), totalBytes);
      await this.#whileRunning(Bun.sleep(LOOK_EVERY_MS));
    }
    this.#hasLoaded = true;
  }

  /** Sends a command and gives its reply's text. @throws as the server has ended, SERVER_FAILED. */
  async ask(...words: string[]): Promise<string> {
    const asker = (this.#asker ??= await this.#connect());
    const reply = await this.#whileRunning(asker.ask(...words));
    if (!reply.isError) return reply.text;
    throw new ReplicaError("SERVER_FAILED", {
      retry: "never",
      message: `${nameOf(this.#program)} answers ${words.join(" ")} with: ${reply.text}`,
    });
  }

  /** Settles with the server's end: see `ServedRestored`. */
  async ended(): Promise<void> {
    try {
      await this.#over;
    } catch (error) {
      if (!this.#signal.aborted) throw error;
    } finally {
      await this.stop();
    }
  }

  /** Ends the server, if it hasn't, and removes its folder. */
  async stop(): Promise<void> {
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#asker?.close();
    this.#signalAll("SIGTERM");
    const timer = setTimeout(() => this.#signalAll("SIGKILL"), STOP_TIMEOUT_MS);
    await this.#child.exited;
    clearTimeout(timer);
    await this.#drained;
    await removeStockFolder(this.#folder.path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #connect(): Promise<Asker> {
    for (;;) {
      try {
        return await this.#whileRunning(
          Asker.connect({ unix: this.#folder.socketPath }, MAX_REPLY_BYTES),
        );
      } catch (error) {
        if (!(error instanceof ReplicaError && error.code === "CONNECT_FAILED")) throw error;
      }
      await this.#whileRunning(Bun.sleep(LOOK_EVERY_MS));
    }
  }

  /** What `work` gives; throws instead where the server ends first, or is to end. */
  async #whileRunning<T>(work: Promise<T>): Promise<T> {
    try {
      return await Promise.race([work, this.#over]);
    } catch (error) {
      // A connection that breaks is the first to tell of an end whose reason comes a moment later.
      const isBroken = error instanceof ReplicaError && error.code === "CONNECT_FAILED";
      if (isBroken && this.#asker !== undefined) return await this.#over;
      throw error;
    }
  }

  #signalAll(name: NodeJS.Signals): void {
    try {
      process.kill(-this.#child.pid, name);
    } catch {
      // They have all ended.
    }
  }

  async #keepLines(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    let unfinished = "";
    for await (const chunk of stream) {
      const lines = (unfinished + decoder.decode(chunk, { stream: true })).split("\n");
      unfinished = (lines.pop() ?? "").slice(0, KEPT_LINE_CHARACTERS);
      this.#hasBegun ||= lines.some((line) => line.includes("Server initialized"));
      this.#lines = [...this.#lines, ...lines].slice(-KEPT_LINES);
    }
    this.#lines.push(unfinished);
  }

  /** Says why the server has ended. */
  async #failed(): Promise<never> {
    // Where the program was a script that started the server, that may still run.
    this.#signalAll("SIGKILL");
    await this.#drained;
    const { listen, socketPath } = this.#folder;
    throw stockFailure(this.#restored, this.#program, {
      address: listen === undefined ? socketPath : `${listen.host}:${listen.port}`,
      lines: this.#lines,
      exitCode: this.#child.exitCode,
      signalCode: this.#child.signalCode === null ? null : String(this.#child.signalCode),
      hasBegun: this.#hasBegun,
      hasLoaded: this.#hasLoaded,
    });
  }
}
