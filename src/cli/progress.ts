import { Writable } from "node:stream";
import cliProgress from "cli-progress";
import { formatBytes } from "../quantity.ts";
import type { Output } from "./output.ts";

/** The rate is that of the last five seconds. */
const rateWindowMs = 5_000;

/**
 * The progress line of a long transfer: bytes, share, rate and time left, or bytes and rate where the
 * length isn't known (`$EOF`). Does nothing unless a person watches and wants it.
 */
export class Progress {
  readonly #output: Output;
  readonly #enabled: boolean;
  readonly #nowMs: () => number;
  #bar: cliProgress.SingleBar | undefined;
  #bytes = 0;
  #samples: { atMs: number; bytes: number }[] = [];

  /** @param options.output where the terminal is, if any: standard error. */
  constructor(options: { output: Output; enabled: boolean; nowMs?: () => number }) {
    this.#output = options.output;
    this.#enabled = options.enabled && options.output.isTty;
    this.#nowMs = options.nowMs ?? (() => performance.now());
  }

  /** Starts a line; one that still stands is ended. `totalBytes` is undefined where nobody knows it. */
  begin(label: string, totalBytes: number | undefined): void {
    if (!this.#enabled) return;
    this.end();
    this.#bytes = 0;
    this.#samples = [{ atMs: this.#nowMs(), bytes: 0 }];
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
    const rate = this.#bytesPerSecond();
    const done = formatBytes(this.#bytes);
    if (totalBytes === undefined) return `${label}  ${done}  ${formatBytes(rate)}/s`;
    const share = totalBytes === 0 ? 1 : Math.min(1, this.#bytes / totalBytes);
    const left = rate === 0 ? "--:--" : formatClock((totalBytes - this.#bytes) / rate);
    const bar = cliProgress.Format.BarFormat(share, options);
    const percent = `${Math.floor(share * 100)}%`.padStart(4);
    return `${label} [${bar}]${percent}  ${done} of ${formatBytes(totalBytes)}  ${formatBytes(rate)}/s  ${left} left`;
  }

  #bytesPerSecond(): number {
    const now = { atMs: this.#nowMs(), bytes: this.#bytes };
    this.#samples.push(now);
    // The oldest sample stays until the next one is old enough to take its place.
    while ((this.#samples[1]?.atMs ?? Infinity) <= now.atMs - rateWindowMs) this.#samples.shift();
    const oldest = this.#samples[0] ?? now;
    const seconds = (now.atMs - oldest.atMs) / 1000;
    return seconds <= 0 ? 0 : Math.max(0, now.bytes - oldest.bytes) / seconds;
  }
}

/** A duration in seconds as `1:05` or `2:03:04`. */
function formatClock(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0
    ? `${hours}:${two(minutes)}:${two(whole % 60)}`
    : `${minutes}:${two(whole % 60)}`;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
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
