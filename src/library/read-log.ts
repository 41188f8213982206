import { ReplicaError, usageError } from "../base/errors.ts";
import { contains, intervalOf } from "../base/history.ts";
import { DirectoryLogs } from "../inspect/log/directory-logs.ts";
import type { LogSource } from "../inspect/log/kept-log.ts";
import { holderOf, type LogBound } from "../inspect/log/log-bounds.ts";
import { type LogReadingOptions, readLog } from "../inspect/log/log-reading.ts";
import { realDisk } from "../store/disk/disk.ts";
import { describeDamage } from "../store/restore/damage.ts";
import type { LogEntry, LogPosition, ReadLogOptions } from "./api/read.d.ts";
import { OF_LOG, wantOptions } from "./option-names.ts";
import { wantCount, wantMoment, wantText } from "./rejections.ts";
import { keptSourceOf, openArchiveAt, warnerOf } from "./sources.ts";

/** Reads what was written. See the declaration of `readLog`. */
export async function* logOf(
  given: string,
  options: ReadLogOptions,
  signal: AbortSignal,
): AsyncGenerator<LogEntry, void, undefined> {
  wantOptions(options, OF_LOG);
  const reading = readingOf(options, signal);
  const position = positionOf(options.from);
  using source = await openLogs(given, options, signal);
  if (position?.replid !== undefined) await refuseOtherHistory(source, position, signal);
  yield* readLog(source, reading);
}

function readingOf(options: ReadLogOptions, signal: AbortSignal): LogReadingOptions {
  const { follow = false, all = false, onGap = refuseGap } = options;
  const warn = warnerOf(options);
  const [from, to] = [boundOf(options.from, "from"), boundOf(options.to, "to")];
  if (follow && to !== undefined) throw usageError("give the option to or follow, not both");
  const keys = textsOf(options.keys, "keys");
  const commands = textsOf(options.commands, "commands");
  const db = wantCount(options.db, "the option db");
  return {
    ...(keys && { keys }),
    ...(commands && { commands }),
    ...(db === undefined ? {} : { db }),
    isAll: all,
    isFollowing: follow,
    from,
    to,
    onGap,
    onRemoved: warn,
    onTrouble: warn,
    signal,
  };
}

function refuseGap(text: string): never {
  throw new ReplicaError("LOG_GAP", { retry: "never", message: text });
}

function textsOf(
  given: string | readonly string[] | undefined,
  option: string,
): string[] | undefined {
  return given === undefined
    ? undefined
    : [given].flat().map((text) => wantText(text, `the option ${option}`));
}

function positionOf(from: ReadLogOptions["from"]): LogPosition | undefined {
  return typeof from === "object" && from !== null && !(from instanceof Date) ? from : undefined;
}

function boundOf(given: ReadLogOptions["from"], option: string): LogBound | undefined {
  if (given === undefined) return undefined;
  const what = `the option ${option}`;
  if (given instanceof Date) return { atMs: wantMoment(given, what)! };
  const offset = positionOf(given)?.offset ?? given;
  if (typeof offset === "number") return { offset: wantCount(offset, what)! };
  throw usageError(`${what} takes an offset as a number, a position with one, or a Date`);
}

/**
 * An offset alone is found in whatever history is newest.
 * @throws ReplicaError LOG_GAP where the stream that holds the offset is not the one that the position is of.
 */
async function refuseOtherHistory(
  source: LogSource,
  { offset, replid = "" }: LogPosition,
  signal: AbortSignal,
): Promise<void> {
  const log = holderOf(source.logs, offset);
  // That it isn't kept is told by who looks for it.
  if (log === undefined) return;
  const interval = intervalOf(await log.histories(log.endOffset, signal), replid);
  if (interval !== undefined && contains(interval, offset)) return;
  refuseGap(
    `offset ${offset} of the history ${replid} is not kept in ${source.name}: generation ${log.id} has another one there`,
  );
}

async function openLogs(
  given: string,
  options: ReadLogOptions,
  signal: AbortSignal,
): Promise<LogSource> {
  const source = keptSourceOf(given);
  const warn = warnerOf(options);
  if (source.kind === "directory") {
    const logs = new DirectoryLogs(source.path, realDisk);
    for (const loss of logs.catalogue.losses) warn(describeDamage(loss));
    return logs;
  }
  const archive = await openArchiveAt(source.url, options, signal);
  const { ArchivedLogs } = await import("../inspect/log/archived-logs.ts");
  const logs = await ArchivedLogs.open(archive, signal);
  for (const warning of logs.warnings()) warn(warning);
  return logs;
}
