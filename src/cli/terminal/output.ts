import { writeSync } from "node:fs";

const clearLine = "\r\x1b[K";

export interface OutputOptions {
  /** Takes the text; it may throw, for one, when the reader has gone. */
  readonly sink: (text: string) => void;
  readonly isTty: boolean;
  /** False unless told; where nobody watches, always. */
  readonly hasColors?: boolean;
  /** 80 and 24 unless told. */
  readonly columns?: () => number;
  readonly rows?: () => number;
  /** Returns what ends the listening. */
  readonly onResize?: (listener: () => void) => () => void;
}

/**
 * Standard output or standard error: text, written at once. A progress line may stand at the bottom
 * of a terminal; what is written goes above it, and the progress line is drawn again below.
 */
export class Output {
  /** Whether a person watches. */
  readonly isTty: boolean;
  /** Whether what is written may have colours: a person watches, and doesn't mind them (NO_COLOR). */
  readonly hasColors: boolean;
  readonly #options: OutputOptions;
  #liveLine = false;

  constructor(options: OutputOptions) {
    this.#options = options;
    this.isTty = options.isTty;
    this.hasColors = options.isTty && (options.hasColors ?? false);
  }

  /** The width of the terminal, in characters. */
  get columns(): number {
    // A terminal that was never told its size says 0.
    return this.#options.columns?.() || 80;
  }

  /** The height of the terminal, in lines. */
  get rows(): number {
    return this.#options.rows?.() || 24;
  }

  /** Calls `listener` when the terminal has changed its size, until what is returned is called. */
  onResize(listener: () => void): () => void {
    return this.#options.onResize?.(listener) ?? (() => undefined);
  }

  /** Writes whole lines. */
  write(text: string): void {
    this.#options.sink(this.#liveLine ? clearLine + text : text);
  }

  /** Draws on the progress line: control sequences and text without a line end. */
  draw(text: string): void {
    this.#liveLine = true;
    this.#options.sink(text);
  }

  /** Clears the progress line; from here on, there is none. */
  endLiveLine(): void {
    if (!this.#liveLine) return;
    this.#liveLine = false;
    this.#options.sink(clearLine);
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
    // See no-color.org.
    hasColors: (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb",
    columns: () => process.stdout.columns,
    rows: () => process.stdout.rows,
    onResize: (listener) => {
      process.stdout.on("resize", listener);
      return () => process.stdout.off("resize", listener);
    },
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
