import { Writable } from "node:stream";
import cliProgress from "cli-progress";
import { formatProgress } from "../../base/quantity.ts";
import { Rate } from "../../base/rate.ts";
import type { Output } from "./output.ts";

/**
 * The progress line of a long transfer: bytes, share, rate and time left, or bytes and rate where the
 * length isn't known (`$EOF`). Does nothing unless a person watches and wants it.
 */
export class Progress {
  readonly #output: Output;
  readonly #enabled: boolean;
  readonly #nowMs: () => number;
  #rate: Rate;
  #bar: cliProgress.SingleBar | undefined;
  #bytes = 0;

  /** @param options.output where the terminal is, if any: standard error. */
  constructor(options: { output: Output; enabled: boolean; nowMs?: () => number }) {
    this.#output = options.output;
    this.#enabled = options.enabled && options.output.isTty;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#rate = new Rate(this.#nowMs);
  }

  /** Starts a line; one that still stands is ended. `totalBytes` is undefined where nobody knows it. */
  begin(label: string, totalBytes: number | undefined): void {
    if (!this.#enabled) return;
    this.end();
    this.#bytes = 0;
    this.#rate = new Rate(this.#nowMs);
    this.#rate.sample(0);
    this.#bar = new cliProgress.SingleBar({
      format: (options) => this.#line(label, totalBytes, options),
      stream: terminalStream(this.#output),
      clearOnComplete: true,
      // A log line above takes this line's place; and the rate changes though no byte came.
      forceRedraw: true,
      linewrap: true,
      // Share, figures and time left fit beside it on a terminal of 80 columns.
      barsize: 16,
    });
    this.#bar.start(totalBytes ?? 0, 0);
  }

  /** How many bytes there are by now, from the start. Cheap: it draws nothing. */
  update(bytes: number): void {
    this.#bytes = bytes;
  }

  /** Takes the line away, and leaves `summary` in its place where there is one. */
  end(summary?: string): void {
    if (this.#bar === undefined) return;
    this.#bar.stop();
    this.#bar = undefined;
    this.#output.endLiveLine();
    if (summary !== undefined) this.#output.write(`${summary}\n`);
  }

  #line(label: string, totalBytes: number | undefined, options: cliProgress.Options): string {
    this.#rate.sample(this.#bytes);
    const figures = formatProgress(this.#bytes, totalBytes, this.#rate.bytesPerSecond);
    if (totalBytes === undefined) return `${label}  ${figures}`;
    const share = totalBytes === 0 ? 1 : Math.min(1, this.#bytes / totalBytes);
    return `${label} [${cliProgress.Format.BarFormat(share, options)}]${figures}`;
  }
}

/** What cli-progress draws on. */
function terminalStream(output: Output): NodeJS.WritableStream {
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string | Uint8Array, _encoding, done) {
      const text = String(chunk);
      // It saves the cursor at the start and restores it at the end, which would overwrite the log
      // lines that came in between.
      if (text !== "\x1b7" && text !== "\x1b8") output.draw(text);
      done();
    },
  });
  return Object.defineProperties(stream, {
    isTTY: { value: true },
    columns: { get: () => output.columns },
  });
}
