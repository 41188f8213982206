import { statSync } from "node:fs";
import { logger } from "../../base/logger.ts";
import { formatBytes } from "../../base/quantity.ts";
import { Catalogue, cutShortNote } from "../../store/restore/catalogue.ts";
import { filesOf } from "../../store/generation/layout.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import { isArchiveUrl } from "../archives/archive-source.ts";
import type { RunCommand } from "./command.ts";
import { table } from "../terminal/table.ts";
import type { KeptGeneration } from "../../store/restore/kept-generation.ts";
import type { Moment } from "../../store/ledger/ledger-reader.ts";

/** `replica snapshots SOURCE`: lists what can be restored from a data directory or an archive. */
export const snapshots: RunCommand = async (context) => {
  const { args, options, stdout } = context;
  const [source = ""] = args;
  if (isArchiveUrl(source)) {
    // What reads an archive is large.
    const [{ openArchive }, { listing }] = await Promise.all([
      import("../../archive/open/open-archive.ts"),
      import("../archives/list-archive.ts"),
    ]);
    const archive = await openArchive(source, context);
    stdout.write(await listing(archive, options.has("json"), context.signal));
    return 0;
  }
  using catalogue = new Catalogue(source);
  const warnings = catalogue.losses.map(describeDamage);
  for (const warning of warnings) logger.warn(warning);
  const note = cutShortNote(catalogue);
  if (note !== undefined) logger.info(note);
  const { generations } = catalogue;
  if (options.has("json")) {
    const listing = {
      dir: catalogue.path,
      warnings,
      generations: generations.map(toJson),
    };
    stdout.write(`${JSON.stringify(listing)}\n`);
    return 0;
  }
  if (generations.length === 0) {
    stdout.write(`${catalogue.path} keeps no snapshot yet\n`);
    return 0;
  }
  stdout.write(
    table(
      [
        "id",
        "state",
        "from",
        "until",
        "from offset",
        "to offset",
        "snapshot",
        "log",
        "sealed because",
      ],
      generations.map((generation) => [
        generation.id,
        generation.state,
        timeOf(generation.first),
        timeOf(generation.last),
        generation.baseOffset,
        generation.durableOffset,
        formatBytes(generation.rdbBytes),
        formatBytes(logBytes(generation)),
        generation.sealedReason ?? "",
      ]),
    ),
  );
  return 0;
};

function timeOf(moment: Moment | undefined): string {
  return moment === undefined ? "unknown" : new Date(moment.atMs).toISOString();
}

/** The length of the log file, which may extend past the durable offset; 0 if it is missing. */
function logBytes(generation: KeptGeneration): number {
  return statSync(filesOf(generation).log, { throwIfNoEntry: false })?.size ?? 0;
}

/** Uses the names and units of INFO. */
function toJson(generation: KeptGeneration) {
  const time = (moment: Moment | undefined) => (moment === undefined ? null : timeOf(moment));
  return {
    id: generation.id,
    state: generation.state,
    sealed_reason: generation.sealedReason ?? null,
    primary: generation.primaryName ?? null,
    from_time: time(generation.first),
    to_time: time(generation.last),
    from_offset: generation.baseOffset,
    to_offset: generation.durableOffset,
    durable_offset: generation.durableOffset,
    rdb_bytes: generation.rdbBytes,
    rdb_crc64: generation.rdbCrc64 ?? null,
    log_bytes: logBytes(generation),
    replication_ids: generation.replicationIds.map(({ replid, fromOffset }) => ({
      replid,
      from_offset: fromOffset,
    })),
  };
}
