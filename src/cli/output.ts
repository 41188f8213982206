import { writeSync } from "node:fs";

const clearLine = "\r\x1b[K";

/**
 * Standard output or standard error: text, written at once. A progress line may stand at the bottom
 * of a terminal; what is written goes above it, and the progress line is drawn again below.
 */
export class Output {
  /** Whether a person watches. */
  readonly isTty: boolean;
  readonly #sink: (text: string) => void;
  readonly #columns: () => number;
  #liveLine = false;

  /** @param options.sink takes the text; it may throw, for one, when the reader has gone. */
  constructor(options: { sink: (text: string) => void; isTty: boolean; columns?: () => number }) {
    this.#sink = options.sink;
    this.isTty = options.isTty;
    this.#columns = options.columns ?? (() => 80);
  }

  /** The width of the terminal, in characters. */
  get columns(): number {
    return this.#columns();
  }

  /** Writes whole lines. */
  write(text: string): void {
    this.#sink(this.#liveLine ? clearLine + text : text);
  }

  /** Draws on the progress line: control sequences and text without a line end. */
  draw(text: string): void {
    this.#liveLine = true;
    this.#sink(text);
  }

  /** Clears the progress line; from here on, there is none. */
  endLiveLine(): void {
    if (!this.#liveLine) return;
    this.#liveLine = false;
    this.#sink(clearLine);
  }
}

/** Whoever read our standard output has gone, as in `replica --help | head -1`. */
export class OutputClosed extends Error {}

/**
 * Standard output.
 * @throws OutputClosed from its writes, once the reader has gone.
 */
export function standardOutput(): Output {
  return new Output({
    sink: (text) => {
      try {
        writeAll(1, text);
      } catch (cause) {
        throw hasCode(cause, "EPIPE") ? new OutputClosed("standard output is closed") : cause;
      }
    },
    isTty: process.stdout.isTTY === true,
    columns: () => process.stdout.columns,
  });
}

/** Standard error. With nobody left to read it, what is written is lost. */
export function standardError(): Output {
  return new Output({
    sink: (text) => {
      try {
        writeAll(2, text);
      } catch {
        // There is nowhere left to say so.
      }
    },
    isTty: process.stderr.isTTY === true,
    columns: () => process.stderr.columns,
  });
}

/** Writes at once, so that nothing is lost when the process exits right after. */
function writeAll(fd: number, text: string): void {
  let rest: Uint8Array = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      // A pipe that another process set non-blocking, and that is full.
      if (!hasCode(error, "EAGAIN")) throw error;
      Bun.sleepSync(1);
    }
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
