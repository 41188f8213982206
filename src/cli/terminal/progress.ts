import { Writable } from "node:stream";
import cliProgress from "cli-progress";
import { formatClock, formatProgress } from "../../base/quantity.ts";
import { Rate } from "../../base/rate.ts";
import type { Output } from "./output.ts";

/**
 * The progress line of a long transfer: bytes, share, rate and time left; if the total is unknown (`$EOF`), bytes, rate and
 * an estimate of what is left. Before it begins, how long it has been waited for. Does nothing without a terminal, or if it is disabled.
 */
export class Progress {
  readonly #output: Output;
  readonly #enabled: boolean;
  readonly #nowMs: () => number;
  #rate: Rate;
  #bar: cliProgress.SingleBar | undefined;
  #bytes = 0;
  #expectedBytes: number | undefined;

  /** @param options.output standard error, which may be a terminal. */
  constructor(options: { output: Output; enabled: boolean; nowMs?: () => number }) {
    this.#output = options.output;
    this.#enabled = options.enabled && options.output.isTty;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#rate = new Rate(this.#nowMs);
  }

  /** Begins a line and ends the previous one. @param totalBytes undefined if unknown. */
  begin(label: string, totalBytes: number | undefined): void {
    if (!this.#enabled) return;
    this.#bytes = 0;
    this.#expectedBytes = undefined;
    this.#rate = new Rate(this.#nowMs);
    this.#rate.sample(0);
    this.#begin((options) => this.#line(label, totalBytes, options), totalBytes);
  }

  /** Begins a line that tells what is waited for, and for how long; it ends the previous one. */
  wait(label: string): void {
    if (!this.#enabled) return;
    const beganMs = this.#nowMs();
    this.#begin(() => `${label}  ${formatClock(Math.floor((this.#nowMs() - beganMs) / 1000))}`);
  }

  #begin(line: (options: cliProgress.Options) => string, totalBytes = 0): void {
    this.end();
    this.#bar = new cliProgress.SingleBar({
      format: line,
      stream: terminalStream(this.#output),
      clearOnComplete: true,
      // Redraw after a log line has taken this line's place, and because the rate changes without new bytes.
      forceRedraw: true,
      linewrap: true,
      // Leaves room for share, bytes, rate and time left on a terminal of 80 columns.
      barsize: 16,
    });
    this.#bar.start(totalBytes, 0);
  }

  /**
   * Sets the number of bytes so far. Cheap: it draws nothing.
   * @param expectedBytes an estimate of the total, where that is unknown.
   */
  update(bytes: number, expectedBytes?: number): void {
    this.#bytes = bytes;
    this.#expectedBytes = expectedBytes;
  }

  /** Removes the line, and prints `summary` in its place if given. */
  end(summary?: string): void {
    if (this.#bar === undefined) return;
    this.#bar.stop();
    this.#bar = undefined;
    this.#output.endLiveLine();
    if (summary !== undefined) this.#output.write(`${summary}\n`);
  }

  #line(label: string, totalBytes: number | undefined, options: cliProgress.Options): string {
    this.#rate.sample(this.#bytes);
    const { bytesPerSecond } = this.#rate;
    const figures = formatProgress(this.#bytes, totalBytes, bytesPerSecond, this.#expectedBytes);
    if (totalBytes === undefined) return `${label}  ${figures}`;
    const share = totalBytes === 0 ? 1 : Math.min(1, this.#bytes / totalBytes);
    return `${label} [${cliProgress.Format.BarFormat(share, options)}]${figures}`;
  }
}

/** The stream that cli-progress draws on. */
function terminalStream(output: Output): NodeJS.WritableStream {
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string | Uint8Array, _encoding, done) {
      const text = String(chunk);
      // cli-progress saves the cursor at the start and restores it at the end, which would overwrite the
      // log lines printed in between.
      if (text !== "\x1b7" && text !== "\x1b8") output.draw(text);
      done();
    },
  });
  return Object.defineProperties(stream, {
    isTTY: { value: true },
    columns: { get: () => output.columns },
  });
}
