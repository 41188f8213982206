export interface UntilOptions {
  /** Milliseconds; 10 s unless told. */
  readonly timeoutMs?: number;
  /** What is waited for, for the message: "the replica to be connected". */
  readonly what: string;
  /** Milliseconds between two looks; 5 unless told. */
  readonly everyMs?: number;
}

/**
 * Looks at `condition` until it gives something truthy, and gives that.
 * A condition that throws counts as "not yet"; its last error is the time-out's cause.
 * @throws Error naming `what` and the time, when the time is over.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  { timeoutMs = 10_000, what, everyMs = 5 }: UntilOptions,
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
    if (performance.now() - startedMs >= timeoutMs) {
      const last = lastError instanceof Error ? `; last: ${lastError.message}` : "";
      throw new Error(`waited ${timeoutMs} ms for ${what}, in vain${last}`, { cause: lastError });
    }
    await Bun.sleep(everyMs);
  }
}

/**
 * Bounds a promise in time.
 * @throws Error naming `what` and the time, when the time is over first.
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
