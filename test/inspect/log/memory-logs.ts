import { parseReplicationId } from "../../../src/base/history.ts";
import type { KeptLog, LogBlock, LogSource } from "../../../src/inspect/log/kept-log.ts";
import type { Moment } from "../../../src/store/ledger/ledger-reader.ts";
import type { MadeLog } from "./made-log.ts";

const BLOCK_BYTES = 97;

export interface MemoryLogPlan {
  readonly id: string;
  readonly log: MadeLog;
  /** How much of it is durable. Default: all. */
  readonly endOffset?: number;
  readonly marks?: readonly Moment[];
  /** Letters for the histories, each from an offset on. Default: "a" from its beginning on. */
  readonly histories?: readonly (readonly [letter: string, fromOffset: number])[];
  readonly isSealed?: boolean;
}

/** A log in memory. */
export function memoryLog({ log, marks = [], ...plan }: MemoryLogPlan): KeptLog {
  const { baseOffset, headerBytes, bytes } = log;
  const histories = plan.histories ?? [["a", baseOffset] as const];
  const zero = baseOffset - headerBytes;
  return {
    id: plan.id,
    baseOffset,
    endOffset: plan.endOffset ?? zero + bytes.length,
    isSealed: plan.isSealed ?? false,
    first: marks[0],
    last: marks.at(-1),
    histories: async (upTo) =>
      histories
        .filter(([, fromOffset]) => fromOffset <= upTo)
        .map(([letter, fromOffset]) => ({
          replid: parseReplicationId(letter.repeat(40)),
          fromOffset,
        })),
    momentBefore: async (atMs) => marks.findLast((mark) => mark.atMs <= atMs),
    // Two at a time, so that more are asked for.
    momentsFrom: async (offset) => marks.filter((mark) => mark.offset >= offset).slice(0, 2),
    damageError: (byte, what) => new Error(`${plan.id}, byte ${byte}: ${what}`),
    blocks: async function* (from, to, signal): AsyncGenerator<LogBlock, void> {
      let at = from === "beginning" ? 0 : from - zero;
      for (; at < to - zero; at += BLOCK_BYTES) {
        signal.throwIfAborted();
        const block = Uint8Array.from(bytes.subarray(at, Math.min(at + BLOCK_BYTES, to - zero)));
        yield { bytes: block, before: zero + at };
        block.fill(0);
      }
    },
  };
}

/** A source of them; each look goes on to the next state, after the last one it calls `onEnd`. */
export class MemoryLogs implements LogSource {
  readonly name = "memory";
  readonly lookEveryMs = 1;
  readonly #states: (readonly KeptLog[])[];
  readonly #onEnd: () => void;
  logs: readonly KeptLog[];

  constructor(states: readonly (readonly KeptLog[])[], onEnd: () => void = () => undefined) {
    this.#states = [...states];
    this.#onEnd = onEnd;
    this.logs = this.#states.shift() ?? [];
  }

  async look(): Promise<void> {
    const next = this.#states.shift();
    if (next === undefined) this.#onEnd();
    else this.logs = next;
  }

  [Symbol.dispose](): void {}
}
