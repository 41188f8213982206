import { keySlot } from "../../cluster/slots/key-slot.ts";
import { type DeliveredEntry, payloadBytes } from "./entry.ts";

/**
 * What became of a key: it is there now (`restored`, or `replaced` another value), it was there and stays (`existed`), its
 * time is over (`expired`), the server refuses its value (`failed`), or its turn didn't come (`left`).
 */
export type Outcome = "restored" | "replaced" | "existed" | "expired" | "failed" | "left";

/** A key on its way. */
export class Parcel {
  readonly entry: DeliveredEntry;
  readonly bytes: number;
  /** Whether a key of this name was there before anything was sent; undefined until that is known. */
  existed: boolean | undefined;
  /** Whether it was sent, and the link broke before the answer: it may be there. */
  isUncertain = false;
  /** The node to ask for it this once (`ASK`). */
  askAt: string | undefined;
  /** Undefined until it is settled. */
  outcome: Outcome | undefined;
  #slot: number | undefined;

  constructor(entry: DeliveredEntry) {
    this.entry = entry;
    this.bytes = payloadBytes(entry);
  }

  get slot(): number {
    return (this.#slot ??= keySlot(this.entry.key));
  }
}

/** So much is in flight at a time, or one value: enough for a long, fast link, and little beside this process itself. */
const BATCH_BYTES = 4 * 1024 * 1024;
/** Small keys cost more memory than their bytes. A batch takes two round trips: with 50 ms each, that is 20,000 keys a second. */
const BATCH_KEYS = 2_048;

/** The entries in batches, in their order, the next one read while a batch is on its way unless a value is large. */
export async function* batchesOf(
  entries: AsyncIterable<DeliveredEntry>,
): AsyncGenerator<readonly Parcel[], void> {
  const source = gathered(entries);
  try {
    let next = source.next();
    for (;;) {
      const { value: batch } = await next;
      if (batch === undefined) return;
      const isLarge = batch.reduce((sum, { bytes }) => sum + bytes, 0) > 2 * BATCH_BYTES;
      if (isLarge) yield batch;
      next = source.next();
      // Whoever awaits it next gets the error.
      next.catch(() => undefined);
      if (!isLarge) yield batch;
    }
  } finally {
    await source.return();
  }
}

async function* gathered(entries: AsyncIterable<DeliveredEntry>): AsyncGenerator<Parcel[], void> {
  let batch: Parcel[] = [];
  let bytes = 0;
  for await (const entry of entries) {
    const parcel = new Parcel(entry);
    if (batch.length > 0 && bytes + parcel.bytes > BATCH_BYTES) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(parcel);
    bytes += parcel.bytes;
    // At once, so that a large value doesn't wait for the next one.
    if (batch.length < BATCH_KEYS && bytes < BATCH_BYTES) continue;
    yield batch;
    [batch, bytes] = [[], 0];
  }
  if (batch.length > 0) yield batch;
}
