import { ReplicaError } from "../../base/errors.ts";
import { Catalogue } from "./catalogue.ts";
import type { Disk } from "../disk/disk.ts";
import { filesOf, offsetOfByte, fileByteOf, type StreamEnd } from "../generation/layout.ts";
import { scanLog } from "./log-scan.ts";
import { damageError } from "./damage.ts";

/**
 * Finds the last safe cut at `offset` or before: the end of a whole command outside a transaction, where
 * another stream may follow. Reads the whole log up to that point and checks it.
 * @param path of the data directory; the log must not be cut meanwhile.
 * @throws ReplicaError DIRECTORY_DAMAGED where the log up to there is damaged; DISK_FAILED; the signal's
 * reason.
 */
export async function findSafeCut(
  path: string,
  { generation: id, offset }: StreamEnd,
  disk: Disk,
  signal: AbortSignal,
): Promise<StreamEnd> {
  using catalogue = new Catalogue(path);
  const generation = catalogue.generations.find((one) => one.id === id);
  if (generation === undefined) {
    throw new ReplicaError("DISK_FAILED", { message: `${path} no longer holds generation ${id}` });
  }
  const until = fileByteOf(generation, offset);
  const segments = catalogue.segments(id);
  const { damage, safeCut, soundEnd } = await scanLog(
    disk,
    generation,
    segments,
    until,
    () => undefined,
    signal,
  );
  if (damage !== undefined) {
    const last = Math.max(generation.baseOffset, offsetOfByte(generation, soundEnd));
    const file = filesOf(generation).log;
    const meaning = `everything up to offset ${last} is sound (--offset ${last})`;
    throw damageError({ file, byte: damage.from, what: damage.what, meaning });
  }
  return { generation: id, offset: offsetOfByte(generation, safeCut) };
}
