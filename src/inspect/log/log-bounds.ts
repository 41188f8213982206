import { usageError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import type { KeptLog, LogSource } from "./kept-log.ts";

/** Where reading begins or ends: at a time, in milliseconds since 1970, or at an offset. */
export type LogBound = { readonly atMs: number } | { readonly offset: Offset };

/** A place in a log. */
export interface LogPlace {
  readonly log: KeptLog;
  readonly offset: Offset;
}

/**
 * Finds the place after which reading begins: what was written at a time or later, or what follows an offset, of the newest
 * log that holds it. Before all times that is the beginning.
 * @returns undefined where no log is kept.
 * @throws ReplicaError USAGE for an offset that isn't kept, and for a time where none is known.
 */
export async function findBeginning(
  source: LogSource,
  bound: LogBound | undefined,
  signal: AbortSignal,
): Promise<LogPlace | undefined> {
  const [first] = source.logs;
  if (first === undefined) return undefined;
  const beginning = { log: first, offset: first.baseOffset };
  if (bound === undefined) return beginning;
  if ("offset" in bound) return atOffset(source, bound.offset);
  return (await before(source, bound.atMs - 1, signal)) ?? beginning;
}

/**
 * Finds the place up to which reading goes: everything that a restore as of that time or offset has.
 * @throws ReplicaError USAGE where it isn't kept.
 */
export async function findEnd(
  source: LogSource,
  bound: LogBound,
  signal: AbortSignal,
): Promise<LogPlace> {
  if ("offset" in bound) return atOffset(source, bound.offset);
  const place = await before(source, bound.atMs, signal);
  if (place !== undefined) return place;
  throw usageError(
    `${shownTime(bound.atMs)} is before all that ${source.name} keeps: ${keptTimesOf(source.logs) ?? ""}`,
  );
}

function atOffset(source: LogSource, offset: Offset): LogPlace {
  const log = holderOf(source.logs, offset);
  if (log !== undefined) return { log, offset };
  throw usageError(`offset ${offset} is not kept in ${source.name}: ${keptOffsetsOf(source.logs)}`);
}

/** The newest log that holds an offset. */
export function holderOf(logs: readonly KeptLog[], offset: Offset): KeptLog | undefined {
  return logs.findLast(({ baseOffset, endOffset }) => offset >= baseOffset && offset <= endOffset);
}

/** The last mark of all that isn't after a time. */
async function before(
  { logs, name }: LogSource,
  atMs: number,
  signal: AbortSignal,
): Promise<LogPlace | undefined> {
  if (logs.every(({ last }) => last === undefined)) {
    throw usageError(
      `the times in ${name} are unknown: give an offset, as offset:N; ${keptOffsetsOf(logs)}`,
    );
  }
  for (const log of logs.toReversed()) {
    const moment = await log.momentBefore(atMs, signal);
    if (moment !== undefined) return { log, offset: Math.min(moment.offset, log.endOffset) };
  }
  return undefined;
}

/** Says which offsets are kept, as a clause of its own. */
export function keptOffsetsOf(logs: readonly KeptLog[]): string {
  if (logs.length === 0) return "it keeps no snapshot yet";
  const ranges = logs.map(
    ({ id, baseOffset, endOffset }) => `${baseOffset} to ${endOffset} (generation ${id})`,
  );
  return `the kept offsets are from ${ranges.join(" and from ")}`;
}

/** Says which times are kept, as a clause of its own; undefined where none is known. */
export function keptTimesOf(logs: readonly KeptLog[]): string | undefined {
  const times = keptTimes(logs);
  if (times === undefined) return undefined;
  return `the kept times are from ${shownTime(times.fromMs)} to ${shownTime(times.toMs)}`;
}

/** The earliest and the latest time of the logs' ends. */
export function keptTimes(
  logs: readonly KeptLog[],
): { readonly fromMs: number; readonly toMs: number } | undefined {
  const times = logs.flatMap(({ first, last }) => [first, last].flatMap((one) => one?.atMs ?? []));
  if (times.length === 0) return undefined;
  return { fromMs: Math.min(...times), toMs: Math.max(...times) };
}
