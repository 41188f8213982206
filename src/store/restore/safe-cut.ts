import { join } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { Catalogue } from "./catalogue.ts";
import type { Disk } from "../disk/disk.ts";
import { LOG, offsetIn, positionIn, type StreamEnd } from "../generation/layout.ts";
import { scanLog } from "./log-scan.ts";
import { describeDamage } from "./damage.ts";

/**
 * The last whole command, outside of transactions, that ends at `offset` or before: who has come to it can
 * go on with something else. Reads the whole log up to there, and checks it on the way.
 * @param path of the data directory; the log must not be cut meanwhile.
 * @throws ReplicaError DIRECTORY_DAMAGED where the log up to there is damaged; DISK_FAILED; the signal's
 * reason.
 */
export async function wholeEnd(
  path: string,
  { generation: id, offset }: StreamEnd,
  disk: Disk,
  signal: AbortSignal,
): Promise<StreamEnd> {
  using catalogue = new Catalogue(path);
  const generation = catalogue.generations.find((one) => one.id === id);
  if (generation === undefined) {
    throw new ReplicaError("DISK_FAILED", { message: `${path} keeps generation ${id} no longer` });
  }
  const until = positionIn(generation, offset);
  const segments = catalogue.segments(id);
  const { damage, safeEnd, soundEnd } = await scanLog(
    disk,
    generation,
    segments,
    until,
    () => undefined,
    signal,
  );
  if (damage !== undefined) {
    const last = Math.max(generation.baseOffset, offsetIn(generation, soundEnd));
    const file = join(generation.dir, LOG);
    const meaning = `what it holds up to offset ${last} is sound (--offset ${last})`;
    throw new ReplicaError("DIRECTORY_DAMAGED", {
      retry: "never",
      message: describeDamage({ file, byte: damage.from, what: damage.what, meaning }),
    });
  }
  return { generation: id, offset: offsetIn(generation, safeEnd) };
}
