import type { Archive, ArchivedGeneration } from "../../archive/reader/archive.ts";
import { logger } from "../../base/logger.ts";
import { formatBytes } from "../../base/quantity.ts";
import { printable } from "../../base/printable.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import type { Moment } from "../../store/ledger/ledger-reader.ts";
import { table } from "../terminal/table.ts";

/**
 * What an archive holds, as text or as JSON, with a line end. Warns of what is damaged.
 * @throws ReplicaError of the store; USAGE where the identity doesn't fit; the signal's reason.
 */
export async function listing(
  archive: Archive,
  isJson: boolean,
  signal: AbortSignal,
): Promise<string> {
  const generations = await archive.generations(signal);
  const damages = [
    ...archive.damages,
    ...archive.found.flatMap((one) => (one.kind === "unfinished" ? [] : one.damages)),
    ...generations.flatMap(({ log }) => log.damages),
  ];
  const warnings = damages.map(describeDamage);
  for (const warning of warnings) logger.warn(warning);
  const { url } = archive.source;
  if (isJson)
    return `${JSON.stringify({ archive: url, warnings, generations: generations.map(toJson) })}\n`;
  if (generations.length === 0) return `${url} holds no whole snapshot yet\n`;
  const head = [
    "id",
    "state",
    "from",
    "until",
    "from offset",
    "to offset",
    "snapshot",
    "log",
    "sealed because",
  ];
  return table(head, generations.map(rowOf));
}

function rowOf(generation: ArchivedGeneration) {
  const { name, first, last, description, base, log } = generation;
  const [from, to] = [description.baseOffset, log.chain.end.offset];
  return [
    name,
    stateOf(generation),
    timeOf(first),
    timeOf(last),
    from,
    to,
    formatBytes(base.rdbBytes),
    formatBytes(to - from),
    printable(generation.sealed?.reason ?? ""),
  ];
}

/** Whether more may come; a log that lacks a part is told of. */
function stateOf({ sealed, log }: ArchivedGeneration): string {
  if (log.chain.gap !== undefined) return "incomplete";
  if (sealed === undefined) return "open";
  return sealed.endOffset > log.chain.end.offset ? "incomplete" : "sealed";
}

function timeOf(moment: Moment | undefined): string {
  return moment === undefined ? "unknown" : shownTime(moment.atMs);
}

/** The names of `replica snapshots` for a data directory. */
function toJson(generation: ArchivedGeneration) {
  const { name, first, last, description, base, sealed, log } = generation;
  const time = (moment: Moment | undefined) => (moment === undefined ? null : timeOf(moment));
  const histories = [{ replid: description.replid, from_offset: description.baseOffset }];
  return {
    id: name,
    state: stateOf(generation),
    sealed_reason: sealed?.reason ?? null,
    primary: description.primary,
    primary_version: description.primaryVersion ?? null,
    from_time: time(first),
    to_time: time(last),
    from_offset: description.baseOffset,
    to_offset: log.chain.end.offset,
    durable_offset: log.chain.end.offset,
    rdb_bytes: base.rdbBytes,
    rdb_crc64: base.rdbCrc64,
    log_bytes: log.chain.end.offset - description.baseOffset,
    replication_ids: histories,
    encrypted: description.recipients.length > 0,
  };
}
