import { ReplicaError } from "../../base/errors.ts";
import { realClock } from "../../base/clock.ts";
import type { Info } from "./info-connection.ts";
import type { Output } from "../terminal/output.ts";
import { PLAIN_COLUMNS } from "../terminal/fitted-table.ts";
import { infoToJson } from "./info-json.ts";
import { type Scene, screenLines } from "./status-screen.ts";

/** Where each answer is shown. */
interface View {
  show(scene: Scene): void;
  end(): void;
}

export interface WatchOptions {
  /** The replica's address as HOST:PORT. */
  readonly at: string;
  readonly ask: (signal: AbortSignal) => Promise<Info>;
  readonly json: boolean;
  readonly stdout: Output;
  readonly signal: AbortSignal;
  /** Milliseconds between two questions. */
  readonly everyMs: number;
}

/**
 * Shows the state of a replica until the signal aborts: on a terminal as a screen that is redrawn, elsewhere
 * as one block after another, with `json` as one line per answer. Keeps asking while the replica is away.
 * @throws ReplicaError AUTH_FAILED, PROTOCOL: asking again would not help.
 */
export async function watchStatus(options: WatchOptions): Promise<void> {
  const { at, ask, json, stdout, signal, everyMs } = options;
  const view = json ? jsonLines(stdout) : stdout.isTty ? new Picture(stdout) : blocks(stdout);
  let info: Info | undefined;
  let seenAtMs = 0;
  try {
    while (!signal.aborted) {
      const beganMs = realClock.monotonicMs();
      try {
        info = await ask(signal);
        seenAtMs = realClock.monotonicMs();
        view.show({ at, info });
      } catch (error) {
        if (signal.aborted) break;
        if (!(error instanceof ReplicaError) || error.code !== "CONNECT_FAILED") throw error;
        const seconds = (realClock.monotonicMs() - seenAtMs) / 1000;
        view.show({ at, info, away: { reason: error.message, seconds } });
      }
      const spentMs = realClock.monotonicMs() - beganMs;
      await realClock.sleep(Math.max(0, everyMs - spentMs), signal);
    }
  } finally {
    view.end();
  }
}

function jsonLines(stdout: Output): View {
  return {
    show: ({ info, away }) => {
      const fields =
        info === undefined || away !== undefined
          ? { ready: 0, not_ready_reason: away?.reason ?? "" }
          : infoToJson(info);
      stdout.write(`${JSON.stringify(fields)}\n`);
    },
    end: () => undefined,
  };
}

function blocks(stdout: Output): View {
  const look = { columns: PLAIN_COLUMNS, hasColors: false };
  return {
    // The last known state is already printed above.
    show: ({ at, info, away }) => {
      const scene = away === undefined ? { at, info } : { at, info: undefined, away };
      stdout.write(`${screenLines(scene, look).join("\n")}\n\n`);
    },
    end: () => undefined,
  };
}

const ALTERNATE_SCREEN = "\x1b[?1049h";
const FORMER_SCREEN = "\x1b[?1049l";
const HIDE_CURSOR = "\x1b[?25l";
const SHOW_CURSOR = "\x1b[?25h";
const HOME = "\x1b[H";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";

/** Draws on the terminal's alternate screen; at the end, leaves the last scene on the normal one. */
class Picture implements View {
  readonly #stdout: Output;
  readonly #endListening: () => void;
  #scene: Scene | undefined;

  constructor(stdout: Output) {
    this.#stdout = stdout;
    this.#endListening = stdout.onResize(() => this.#draw());
    stdout.write(ALTERNATE_SCREEN + HIDE_CURSOR);
  }

  show(scene: Scene): void {
    this.#scene = scene;
    this.#draw();
  }

  #draw(): void {
    const { rows } = this.#stdout;
    // Clearing after a full line would erase its last column, and a line end in the last row would scroll.
    const columns = Math.max(1, this.#stdout.columns - 1);
    const lines = this.#lines(columns).slice(0, Math.max(1, rows - 1));
    const drawn = lines.map((line) => `${Bun.sliceAnsi(line, 0, columns)}${CLEAR_LINE}\n`);
    this.#stdout.write(`${HOME}${drawn.join("")}${CLEAR_BELOW}`);
  }

  #lines(columns: number): string[] {
    if (this.#scene === undefined) return [];
    return screenLines(this.#scene, { columns, hasColors: this.#stdout.hasColors });
  }

  end(): void {
    this.#endListening();
    const last = this.#lines(this.#stdout.columns).map((line) => `${line}\n`);
    this.#stdout.write(`${SHOW_CURSOR}${FORMER_SCREEN}${last.join("")}`);
  }
}
