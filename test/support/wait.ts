/**
 * How long a test waits for what must come, in milliseconds. It is long, because a machine that is busy with other work
 * makes a test slow, not wrong.
 */
export const PATIENCE_MS = Number(process.env["TEST_PATIENCE_MS"] ?? 150_000);

export interface UntilOptions {
  /** Milliseconds. Default: PATIENCE_MS. */
  readonly timeoutMs?: number;
  /** What the test waits for, for the message: "the replica to be connected". */
  readonly what: string;
  /** Milliseconds between two checks. Default: 5, and 20 after half a second: a hundred tests that look are a load. */
  readonly everyMs?: number;
}

const FIRST_LOOKS_MS = 500;

/**
 * Polls `condition` until it returns something truthy, and returns that. A condition that throws is
 * polled again; its last error becomes the cause of the timeout.
 * @throws Error naming `what` and the time, on timeout.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  { timeoutMs = PATIENCE_MS, what, everyMs }: UntilOptions,
): Promise<NonNullable<T>> {
  const startedMs = performance.now();
  let lastError: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    const waitedMs = performance.now() - startedMs;
    if (waitedMs >= timeoutMs) {
      const last = lastError instanceof Error ? `; last: ${lastError.message}` : "";
      throw new Error(`waited ${timeoutMs} ms for ${what}, in vain${last}`, { cause: lastError });
    }
    await Bun.sleep(everyMs ?? (waitedMs < FIRST_LOOKS_MS ? 5 : 20));
  }
}

/**
 * Bounds a promise in time.
 * @throws Error naming `what` and the time, on timeout.
 */
export async function within<T>(timeoutMs: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`waited ${timeoutMs} ms for ${what}, in vain`));
    }, timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const TICK_MS = 10;

/**
 * Bounds a promise in time in which this process runs: each tick counts as 10 ms, however late a busy
 * machine makes it. For limits that the program promises, which hold on a machine that isn't busy.
 * @throws Error naming `what` and the time, on timeout.
 */
export async function withinOwnTime<T>(
  timeoutMs: number,
  what: string,
  promise: Promise<T>,
): Promise<T> {
  const settled = promise.then(
    () => true,
    () => true,
  );
  for (let ownMs = 0; ownMs < timeoutMs; ownMs += TICK_MS) {
    if (await Promise.race([settled, Bun.sleep(TICK_MS)])) return await promise;
  }
  throw new Error(`waited ${timeoutMs} ms for ${what}, in vain`);
}
