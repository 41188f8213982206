import type { Archive, ArchivedGeneration } from "./archive.ts";
import type { GenerationHead } from "./generation-head.ts";
import { inOrder } from "./in-order.ts";

/** How many logs are listed side by side. */
const LISTINGS = { things: 8, bytes: Infinity };

/**
 * The generation that reaches farthest in time: of a primary that is preferred, where there is one of it. Of those that
 * ended, only the last one is looked into.
 * @param isPreferred whether a primary's name, as a generation's description tells it, is of the one that is meant.
 * @returns undefined where the archive holds no whole snapshot.
 * @throws ReplicaError of the store; see `Archive.generation`.
 */
export async function newestGeneration(
  archive: Archive,
  isPreferred: (primary: string) => boolean,
  signal: AbortSignal,
): Promise<ArchivedGeneration | undefined> {
  const { heads } = archive;
  const preferred = heads.filter(({ description }) => isPreferred(description.primary));
  const candidates = preferred.length > 0 ? preferred : heads;
  const open = candidates.filter(({ sealed }) => sealed === undefined);
  const ended = candidates.filter(({ sealed }) => sealed !== undefined);
  const last = latest(ended, ({ sealed }) => Date.parse(sealed?.sealed ?? ""));
  const looked = last === undefined ? open : [last, ...open];
  const join = async (head: GenerationHead, stop: AbortSignal) =>
    await archive.generation(head, stop);
  const generations: ArchivedGeneration[] = [];
  for await (const one of inOrder(looked, LISTINGS, () => 0, join, signal)) generations.push(one);
  // Without an identity no times are known but that of the beginning.
  return latest(generations, ({ last: end, startedMs }) => end?.atMs ?? startedMs);
}

/** The one with the greatest time; of several with the same, the last: it began last, so its log is the shortest. */
function latest<T>(all: readonly T[], timeOf: (one: T) => number): T | undefined {
  return all.reduce<T | undefined>(
    (best, one) => (best === undefined || timeOf(one) >= timeOf(best) ? one : best),
    undefined,
  );
}
