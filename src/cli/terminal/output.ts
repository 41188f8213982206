import { fstatSync, statSync, writeSync } from "node:fs";

const clearLine = "\r\x1b[K";

export interface OutputOptions {
  /** Writes the text; may throw, for example if the reader is gone. */
  readonly sink: (text: string) => void;
  readonly isTty: boolean;
  /** Default: false; has no effect without a terminal. */
  readonly hasColors?: boolean;
  /** Default: 80 and 24. */
  readonly columns?: () => number;
  readonly rows?: () => number;
  /** Returns a function that stops the listening. */
  readonly onResize?: (listener: () => void) => () => void;
}

/**
 * Standard output or standard error; text is written at once. On a terminal there may be a progress line at
 * the bottom: text goes above it, and the line is drawn again below.
 */
export class Output {
  /** Whether it is a terminal. */
  readonly isTty: boolean;
  /** Whether text may have colours: it is a terminal, and NO_COLOR is not set. */
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
    // A terminal whose size was never set reports 0.
    return this.#options.columns?.() || 80;
  }

  /** The height of the terminal, in lines. */
  get rows(): number {
    return this.#options.rows?.() || 24;
  }

  /** Calls `listener` whenever the terminal changes size, until the returned function is called. */
  onResize(listener: () => void): () => void {
    return this.#options.onResize?.(listener) ?? (() => undefined);
  }

  /** Writes whole lines. */
  write(text: string): void {
    this.#options.sink(this.#liveLine ? clearLine + text : text);
  }

  /** Draws the progress line: text without a line end, and control sequences. */
  draw(text: string): void {
    this.#liveLine = true;
    this.#options.sink(text);
  }

  /** Clears the progress line. */
  endLiveLine(): void {
    if (!this.#liveLine) return;
    this.#liveLine = false;
    this.#options.sink(clearLine);
  }
}

/** The reader of standard output is gone, as in `replica --help | head -1`. */
export class OutputClosed extends Error {}

/**
 * Standard output. Its writes throw OutputClosed once the reader is gone.
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
    isTty: isTerminal(1),
    hasColors: wantsColors(),
    columns: () => process.stdout.columns,
    rows: () => process.stdout.rows,
    onResize: (listener) => {
      process.stdout.on("resize", listener);
      return () => process.stdout.off("resize", listener);
    },
  });
}

/** Standard error. Once the reader is gone, writes are ignored. */
export function standardError(): Output {
  return new Output({
    sink: (text) => {
      try {
        writeAll(2, text);
      } catch {
        // There is nowhere left to report it.
      }
    },
    isTty: isTerminal(2),
    hasColors: wantsColors(),
    columns: () => process.stderr.columns,
  });
}

/** Whether a terminal gets colours, see no-color.org. */
function wantsColors(): boolean {
  return (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb";
}

/** Whether a descriptor is a terminal. Bun is asked only where it may be one, because it loads Node's streams to answer. */
function isTerminal(fd: 1 | 2): boolean {
  try {
    const about = fstatSync(fd);
    const nowhere = statSync("/dev/null", { throwIfNoEntry: false });
    if (!about.isCharacterDevice() || about.rdev === nowhere?.rdev) return false;
  } catch {
    return false;
  }
  return (fd === 1 ? process.stdout : process.stderr).isTTY === true;
}

/** Writes synchronously, so that nothing is lost if the process exits right after. */
function writeAll(fd: number, text: string): void {
  let rest: Uint8Array = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      // A full pipe that another process has set to non-blocking.
      if (!hasCode(error, "EAGAIN")) throw error;
      Bun.sleepSync(1);
    }
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
