import { usageError } from "../base/errors.ts";
import { historyAfter } from "../base/history.ts";
import { parseFormat } from "../rdb/made-by.ts";
import { realDisk } from "../store/disk/disk.ts";
import { PieceCheckers } from "../store/pieces/piece-checkers.ts";
import { Catalogue } from "../store/restore/catalogue.ts";
import { describeDamage } from "../store/restore/damage.ts";
import { restore, type Restored as Written } from "../store/restore/restore.ts";
import { restorePoint } from "../store/restore/restore-point.ts";
import { parseTargetServer, refuseUnloadable } from "../store/restore/target-server.ts";
import type { Restored, RestoreOptions } from "./api/restore.d.ts";
import { OF_RESTORE, wantOptions } from "./option-names.ts";
import { wantCount, wantMoment, wantText } from "./rejections.ts";
import { keptSourceOf, openArchiveAt, warnerOf } from "./sources.ts";

/** Writes what a stock server starts from. See the declaration of `restore`. */
export async function restoreSource(
  given: string,
  target: string,
  options: RestoreOptions,
  signal: AbortSignal,
): Promise<Restored> {
  wantOptions(options, OF_RESTORE);
  const source = keptSourceOf(given);
  wantText(target, "the target");
  if (target.includes("://")) throw usageError(`${target} is not a folder: the target is one`);
  const how = howOf(options, signal);
  return source.kind === "archive"
    ? await restoreArchived(source.url, target, options, how)
    : await restoreKept(source.path, target, options, how);
}

type How = ReturnType<typeof howOf>;

function howOf(options: RestoreOptions, signal: AbortSignal) {
  const { layout = "multipart", mode, onProgress = () => undefined } = options;
  if (layout !== "multipart" && layout !== "single")
    throw usageError(`the option layout is ${String(layout)}: it takes multipart or single`);
  // Whoever writes it must be able to read it and to write it again.
  const isMode = mode === undefined || (Number.isInteger(mode) && mode >= 0o600 && mode <= 0o777);
  if (!isMode) throw usageError(`the option mode is ${mode}: it takes 0o600 to 0o777`);
  const server = options.for === undefined ? undefined : parseTargetServer(options.for);
  return { layout, mode, target: server, signal, onProgress, disk: realDisk };
}

/** The point that is wanted, but for the generation. */
function pointOf({ at, offset }: RestoreOptions) {
  if (at !== undefined && offset !== undefined)
    throw usageError("give the option at or offset, not both");
  return {
    atMs: wantMoment(at, "the option at"),
    offset: wantCount(offset, "the option offset"),
  };
}

async function restoreKept(
  dir: string,
  target: string,
  options: RestoreOptions,
  how: How,
): Promise<Restored> {
  const { generation } = options;
  if (typeof generation === "string")
    throw usageError(`the option generation is a text: a data directory's are numbers`);
  const wanted = {
    generation: wantCount(generation, "the option generation"),
    ...pointOf(options),
  };
  const warn = warnerOf(options);
  using catalogue = new Catalogue(dir);
  for (const loss of catalogue.losses) warn(describeDamage(loss));
  const point = restorePoint(catalogue, wanted);
  using checkers = new PieceCheckers({ signal: how.signal });
  const restored = await restore(catalogue, point, target, { ...how, checkers });
  return told(restored, restored.generation.id, warn);
}

async function restoreArchived(
  url: string,
  target: string,
  options: RestoreOptions,
  how: How,
): Promise<Restored> {
  const { generation } = options;
  if (typeof generation === "number")
    throw usageError(`the option generation is a number: an archive's are names`);
  const wanted = { generation, ...pointOf(options) };
  const { signal } = how;
  const warn = warnerOf(options);
  const archive = await openArchiveAt(url, options, signal);
  const [{ archivePoint, cutOf }, { linkingDisk, withFetched }] = await Promise.all([
    import("../archive/reader/archive-point.ts"),
    import("../archive/reader/fetch-source.ts"),
  ]);
  for (const damage of archive.damages) warn(describeDamage(damage));
  const point = await archivePoint(archive, wanted, signal);
  const cut = cutOf(point.generation);
  // Whoever asked for all of it gets less.
  if (cut !== undefined && point.offset === point.generation.log.chain.end.offset) warn(cut);
  const format = parseFormat(point.generation.description.rdbFormat ?? "");
  // Before any of it is fetched; what was archived before says nothing of it.
  if (how.target && format) refuseUnloadable(format, how.layout, how.target);
  using checkers = new PieceCheckers({ signal });
  // One file that goes on behind the snapshot needs a copy of its own.
  const disk = how.layout === "multipart" ? linkingDisk(realDisk) : realDisk;
  const restored = await withFetched(archive, point, target, how, async (catalogue, at) =>
    restore(catalogue, at, target, { ...how, checkers, disk }),
  );
  return told(restored, point.generation.name, warn);
}

function told(
  restored: Written,
  generation: number | string,
  warn: (text: string) => void,
): Restored {
  for (const warning of restored.warnings) warn(warning);
  const { dir, offset, atMs, commands, rewrittenCommands, leftOutCommands } = restored;
  const { rdbBytes, logBytes } = restored;
  const counts = { commands, rewrittenCommands, leftOutCommands, rdbBytes, logBytes };
  // What was fetched of an archive tells its histories, too.
  const replid = historyAfter(restored.generation.replicationIds, offset);
  return { dir, generation, offset, replid, atMs, ...counts };
}
