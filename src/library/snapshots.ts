import { keptSnapshot } from "../inspect/snapshots/kept-snapshot.ts";
import { Catalogue } from "../store/restore/catalogue.ts";
import { describeDamage } from "../store/restore/damage.ts";
import type { SourceOptions } from "./api/common.d.ts";
import type { Snapshot } from "./api/restore.d.ts";
import { OF_SNAPSHOTS, wantOptions } from "./option-names.ts";
import { keptSourceOf, openArchiveAt, warnerOf } from "./sources.ts";

/** Lists what can be restored. See the declaration of `snapshots`. */
export async function listSnapshots(
  given: string,
  options: SourceOptions,
  signal: AbortSignal,
): Promise<Snapshot[]> {
  wantOptions(options, OF_SNAPSHOTS);
  const source = keptSourceOf(given);
  const warn = warnerOf(options);
  if (source.kind === "archive") {
    const archive = await openArchiveAt(source.url, options, signal);
    const { archivedSnapshot, archiveWarnings } =
      await import("../inspect/snapshots/archived-snapshot.ts");
    const generations = await archive.generations(signal);
    for (const warning of archiveWarnings(archive, generations)) warn(warning);
    return generations.map(archivedSnapshot);
  }
  using catalogue = new Catalogue(source.path);
  for (const loss of catalogue.losses) warn(describeDamage(loss));
  return catalogue.generations.map(keptSnapshot);
}
