import { ReplicaError } from "../../base/errors.ts";
import { counted } from "../../base/quantity.ts";
import { filesOf } from "../../store/generation/layout.ts";
import { type Damage, damageError } from "../../store/restore/damage.ts";
import type { KeptGeneration } from "../../store/restore/kept-generation.ts";
import { verifyBase } from "../../store/restore/verify.ts";
import { EntrySource } from "./entry-source.ts";
import type { ChooseOptions } from "./replay.ts";

/**
 * Checks the snapshot before anything is made of it.
 * @param isWanted whether a key is chosen.
 * @throws ReplicaError DIRECTORY_DAMAGED, which says how many chosen keys stand before the damage; DISK_FAILED; the signal's reason.
 */
export async function checkBase(
  generation: KeptGeneration,
  isWanted: (db: number, key: Uint8Array) => boolean,
  options: Pick<ChooseOptions, "disk" | "signal" | "checkers" | "onProgress">,
): Promise<void> {
  const { checkers, ...rest } = options;
  const damages: Damage[] = [];
  await verifyBase(generation, damages, checkers === undefined ? rest : { ...rest, checkers });
  const [damage] = damages;
  if (damage === undefined) return;
  const left = await readable(filesOf(generation).base, isWanted, options);
  throw damageError({ ...damage, meaning: `${damage.meaning}; ${left}` });
}

/** Says what of the chosen keys can still be read of a damaged snapshot. */
async function readable(
  path: string,
  isWanted: (db: number, key: Uint8Array) => boolean,
  options: Pick<ChooseOptions, "disk" | "signal" | "onProgress">,
): Promise<string> {
  let keys = 0;
  try {
    using source = new EntrySource({ ...options, path });
    for await (const _ of source.entries(isWanted)) keys++;
  } catch (error) {
    options.signal.throwIfAborted();
    if (!(error instanceof ReplicaError)) throw error;
    const where = error.message;
    return `${counted(keys, "chosen key")} can be read up to where the reading ends: ${where}`;
  }
  return `${counted(keys, "chosen key")} can be read, but a value may be changed`;
}
