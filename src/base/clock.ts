/** Time and chance, as everything here sees them: a seam for the tests. */
export interface Clock {
  /** The wall clock; milliseconds since 1970. */
  now(): number;
  /** Milliseconds since some moment; never runs backwards. */
  monotonicMs(): number;
  /** Resolves after so many milliseconds, or at once when `signal` is aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** From 0 up to, not including, 1. */
  random(): number;
}

export const realClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done);
    }),
  random: () => Math.random(),
};

/**
 * How long to wait before attempt `failures + 1`: doubled each time from 100 ms up to `maxMs`, and
 * of that a random part of at least half, so that many replicas don't come back at one moment.
 */
export function backoffMs(failures: number, maxMs: number, random: () => number): number {
  const ceiling = Math.min(maxMs, 100 * 2 ** Math.min(failures - 1, 20));
  return Math.round(ceiling * (0.5 + random() / 2));
}
