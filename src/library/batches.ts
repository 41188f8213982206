/** Takes what was produced, and resolves once all of it was read. @throws the signal's reason where nobody reads on. */
export type Give<T> = (batch: readonly T[]) => Promise<void>;

/**
 * Lets what is produced be iterated, batch by batch: the producer waits until one is read before it makes the next.
 * @param produce works until it is done, or the signal that it gets aborts: also where the reader stops early.
 * @throws what `produce` throws.
 */
export async function* inBatches<T>(
  produce: (give: Give<T>, signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  const leaving = new AbortController();
  const left = Promise.withResolvers<void>();
  let given = Promise.withResolvers<readonly T[] | undefined>();
  let taken = Promise.withResolvers<void>();
  const stop = AbortSignal.any([signal, leaving.signal]);
  const give: Give<T> = async (batch) => {
    if (batch.length === 0) return;
    given.resolve(batch);
    await Promise.race([taken.promise, left.promise]);
    stop.throwIfAborted();
    taken = Promise.withResolvers();
  };
  const producing = produce(give, stop);
  producing.then(
    () => given.resolve(undefined),
    (error: unknown) => given.reject(error),
  );
  // It may fail while a batch is read, or after the reader has left.
  producing.catch(() => undefined);
  try {
    for (;;) {
      const batch = await given.promise;
      if (batch === undefined) return;
      given = Promise.withResolvers();
      given.promise.catch(() => undefined);
      yield* batch;
      taken.resolve();
    }
  } finally {
    leaving.abort();
    left.resolve();
    await Promise.allSettled([producing]);
  }
}
