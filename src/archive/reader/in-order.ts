/** How much may be under way at once: things, and their cost in bytes of memory. */
export interface Ahead {
  readonly things: number;
  readonly bytes: number;
}

/** What a reader takes ahead of the disk: two pieces as they lie in the store, or many that are smaller. */
export const READ_AHEAD: Ahead = { things: 32, bytes: 40 * 1024 * 1024 };

/**
 * Does work on items side by side, and gives the results in the order of the items. Nothing goes on once this is over,
 * for whatever reason.
 * @param costOf the bytes of memory that an item takes until its result is handed over; one item may always be under way.
 * @param work must end soon once its signal aborts.
 * @throws the first error in the order of the items; the reason of `signal`.
 */
export async function* inOrder<T, R>(
  items: Iterable<T>,
  ahead: Ahead,
  costOf: (item: T) => number,
  work: (item: T, signal: AbortSignal) => Promise<R>,
  signal: AbortSignal,
): AsyncGenerator<R, void> {
  const over = new AbortController();
  const all = AbortSignal.any([signal, over.signal]);
  const running: { readonly result: Promise<R>; readonly cost: number }[] = [];
  let bytes = 0;
  const next = async (): Promise<R> => {
    const { result, cost } = running.shift()!;
    const done = await result;
    bytes -= cost;
    signal.throwIfAborted();
    return done;
  };
  try {
    for (const item of items) {
      const cost = costOf(item);
      while (running.length > 0 && (running.length >= ahead.things || bytes + cost > ahead.bytes))
        yield await next();
      bytes += cost;
      const result = work(item, all);
      // Whoever waits for it is told, and nobody else.
      result.catch(() => undefined);
      running.push({ result, cost });
    }
    while (running.length > 0) yield await next();
  } finally {
    over.abort(new Error("what was read ahead isn't needed"));
    await Promise.allSettled(running.map(({ result }) => result));
  }
}
