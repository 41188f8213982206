/** Time and randomness, passed in wherever they are used so that tests can control them. */
export interface Clock {
  /** Wall-clock time; milliseconds since 1970. */
  now(): number;
  /** Milliseconds since an arbitrary moment; never runs backwards. */
  monotonicMs(): number;
  /** Resolves after `ms` milliseconds, or as soon as `signal` aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** A random number from 0 (inclusive) to 1 (exclusive). */
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
 * How long to wait before attempt `failures + 1`: 100 ms, doubled after each failure up to `maxMs`, times a
 * random factor from 0.5 to 1, so that many replicas don't reconnect at the same moment.
 */
export function backoffMs(failures: number, maxMs: number, random: () => number): number {
  const ceiling = Math.min(maxMs, 100 * 2 ** Math.min(failures - 1, 20));
  return Math.round(ceiling * (0.5 + random() / 2));
}
