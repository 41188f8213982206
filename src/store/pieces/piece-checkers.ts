import { availableParallelism } from "node:os";
import { logger } from "../../base/logger.ts";
import { diskError } from "../disk/disk.ts";
import { ReplicaError } from "../../base/errors.ts";
import type { Piece, PieceFindings } from "./piece.ts";
import type { PieceAnswer } from "./piece-worker.ts";

/** More workers than this outrun any disk, and each costs memory. */
const MAX_WORKERS = 8;
/** What a worker is given ahead, so that it never waits for this thread. */
const ASKED_AHEAD = 2;

export interface CheckersOptions {
  /** Ends the workers, and whatever waits for them. */
  readonly signal: AbortSignal;
  /** How many workers to start at most; by default one for each core, and no more than 8. */
  readonly workers?: number;
  /** Files below this size, in bytes, are not worth the start of workers, some 20 ms. */
  readonly fromBytes?: number;
  /** The size of a piece, in bytes: some 8 ms of work. */
  readonly pieceBytes?: number;
  /** Starts a worker. @throws Error where the system lets no thread be started. */
  readonly start?: () => Worker;
}

/** A piece that somebody waits for. `findings` is undefined where no worker is left. */
interface Task {
  readonly piece: Piece;
  readonly findings: Promise<PieceFindings | undefined>;
  readonly resolve: (findings: PieceFindings | undefined) => void;
  readonly reject: (reason: unknown) => void;
}

/** A worker, and what it was asked, in order. */
interface Checker {
  readonly worker: Worker;
  readonly asked: Task[];
  hasAnswered: boolean;
}

/**
 * Checks pieces of large files on all cores. Workers are started for the first piece, read the file themselves,
 * and end with `dispose`. Each has one block of 256 KiB and its own JavaScript heap, some 10 MiB in all,
 * whatever the size of the files.
 */
export class PieceCheckers implements Disposable {
  readonly fromBytes: number;
  readonly pieceBytes: number;
  readonly #signal: AbortSignal;
  readonly #workers: number;
  readonly #start: () => Worker;
  readonly #queue: Task[] = [];
  /** Undefined before the first piece. */
  #checkers: Checker[] | undefined;
  readonly #onAbort = () => this.#end(this.#signal.reason);

  constructor(options: CheckersOptions) {
    this.#signal = options.signal;
    this.#workers = options.workers ?? Math.min(availableParallelism(), MAX_WORKERS);
    this.fromBytes = options.fromBytes ?? 64 * 2 ** 20;
    this.pieceBytes = options.pieceBytes ?? 32 * 2 ** 20;
    this.#start = options.start ?? startWorker;
    this.#signal.addEventListener("abort", this.#onAbort);
  }

  /** Whether a file of so many bytes is to be checked in pieces: it is large, and there is more than one core. */
  pays(bytes: number): boolean {
    return this.#workers > 1 && bytes >= this.fromBytes;
  }

  /**
   * Checks pieces, and hands the findings on in their order.
   * @param take returns false to stop, where the findings prove nothing.
   * @returns false where it stopped, or where no worker could be started.
   * @throws ReplicaError DISK_FAILED; the signal's reason; what `take` throws.
   */
  async check(
    pieces: Iterable<Piece>,
    take: (piece: Piece, findings: PieceFindings) => Promise<boolean> | boolean,
  ): Promise<boolean> {
    this.#signal.throwIfAborted();
    const waiting: Task[] = [];
    const next = pieces[Symbol.iterator]();
    const ask = () => {
      const { done, value } = next.next();
      if (done !== true) waiting.push(this.#ask(value));
    };
    try {
      const ahead = this.#workers * (ASKED_AHEAD + 1);
      for (let asked = 0; asked < ahead; asked++) ask();
      for (let task = waiting.shift(); task !== undefined; task = waiting.shift()) {
        const findings = await task.findings;
        if (findings === undefined || !(await take(task.piece, findings))) return false;
        ask();
      }
      return true;
    } finally {
      for (const task of waiting) this.#forget(task);
    }
  }

  /** Ends the workers, and frees their memory, until there is another piece. Nobody may be waiting for one. */
  rest(): void {
    if (this.#signal.aborted) return;
    for (const { worker } of this.#checkers ?? []) worker.terminate();
    this.#checkers = undefined;
  }

  /** Ends the workers. Nobody may be waiting for a piece any more. */
  [Symbol.dispose](): void {
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#end(undefined);
  }

  #ask(piece: Piece): Task {
    const { promise, resolve, reject } = Promise.withResolvers<PieceFindings | undefined>();
    // Whoever stops waiting need not see it fail.
    promise.catch(() => undefined);
    const task = { piece, findings: promise, resolve, reject };
    this.#checkers ??= this.#startAll();
    this.#queue.push(task);
    this.#handOut();
    return task;
  }

  #forget(task: Task): void {
    const at = this.#queue.indexOf(task);
    if (at !== -1) this.#queue.splice(at, 1);
  }

  #handOut(): void {
    const checkers = this.#checkers ?? [];
    if (checkers.length === 0) {
      for (const task of this.#queue.splice(0)) task.resolve(undefined);
      return;
    }
    // One each before anybody gets a second one.
    for (let asked = 0; asked < ASKED_AHEAD; asked++) {
      for (const checker of checkers) {
        if (checker.asked.length > asked) continue;
        const task = this.#queue.shift();
        if (task === undefined) return;
        checker.asked.push(task);
        const { path, from, to, cuts, commandsTo } = task.piece;
        checker.worker.postMessage({ path, from, to, cuts, commandsTo } satisfies Piece);
      }
    }
  }

  #startAll(): Checker[] {
    const checkers: Checker[] = [];
    try {
      while (checkers.length < this.#workers) checkers.push(this.#watched(this.#start()));
    } catch (error) {
      logger.debug(`the system lets no more threads be started: ${String(error)}`);
    }
    logger.debug(`checking on ${checkers.length} threads`);
    return checkers;
  }

  #watched(worker: Worker): Checker {
    const checker: Checker = { worker, asked: [], hasAnswered: false };
    worker.addEventListener("message", ({ data }: MessageEvent<PieceAnswer>) => {
      checker.hasAnswered = true;
      const task = checker.asked.shift();
      if ("findings" in data) task?.resolve(data.findings);
      else task?.reject(new ReplicaError("DISK_FAILED", { message: data.failure }));
      this.#handOut();
    });
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#lose(checker, event.message);
    });
    worker.addEventListener("close", () => this.#lose(checker, "it ended by itself"));
    return checker;
  }

  /** A worker that never answered can't run here, so the others do its work; one that did has a bug, or no memory. */
  #lose(checker: Checker, why: string): void {
    const at = this.#checkers?.indexOf(checker) ?? -1;
    if (at === -1) return;
    this.#checkers?.splice(at, 1);
    checker.worker.terminate();
    const asked = checker.asked.splice(0);
    if (checker.hasAnswered) {
      for (const { piece, reject } of asked)
        reject(diskError("checking", piece.path, new Error(`a worker thread failed: ${why}`)));
    } else {
      logger.debug(`a worker thread did not start: ${why}`);
      this.#queue.unshift(...asked);
    }
    this.#handOut();
  }

  #end(reason: unknown): void {
    const checkers = this.#checkers ?? [];
    this.#checkers = [];
    for (const { worker } of checkers) worker.terminate();
    for (const { reject } of [...checkers.flatMap(({ asked }) => asked), ...this.#queue.splice(0)])
      reject(reason);
  }
}

/** The path is seen by the build too: it finds the worker by its name beside the program. */
function startWorker(): Worker {
  return new Worker(new URL("./piece-worker.ts", import.meta.url));
}
