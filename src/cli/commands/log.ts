import { type ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import {
  holderOf,
  keptOffsetsOf,
  keptTimes,
  keptTimesOf,
  type LogBound,
} from "../../inspect/log/log-bounds.ts";
import type { LogSource } from "../../inspect/log/kept-log.ts";
import { LogReading, type LogReadingOptions } from "../../inspect/log/log-reading.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import { isArchiveUrl } from "../../archive/open/archive-url.ts";
import { isClusterDirectory } from "../clusters/cluster-source.ts";
import { jsonLines, shownLines, type WriteEntry } from "../log/log-lines.ts";
import { parseTime } from "../times/parse-time.ts";
import { type CommandContext, type RunCommand, valuesOf } from "./command.ts";
import { tell, timeOf, wholeNumber } from "./moment-options.ts";

/** Text is handed to the reader in chunks of this size, and whenever a block of the log was looked at. */
const CHUNK_CHARACTERS = 64 * 1024;
/** Patterns are tried against every key; longer ones are mistakes. */
const MAX_PATTERN_BYTES = 64 * 1024;

/** `replica log SOURCE`: shows what was written, and when. */
export const log: RunCommand = async (context) => {
  const { args, options, signal, stdout } = context;
  const [name = ""] = args;
  const limit = limitOf(options);
  using source = await openSource(name, context);
  const wanted = await readingOptions(source, context);
  const output = new ChunkedOutput((text) => stdout.write(text));
  const writeEntry = writerFor(output, source, context);
  try {
    if (limit > 0) await writeAll(new LogReading(source, wanted), limit, output, writeEntry);
  } catch (error) {
    // What could be read is shown.
    output.flush();
    // Following goes on until it is stopped: then it is done.
    if (wanted.isFollowing === true && signal.aborted && error === signal.reason) return 0;
    throw error;
  }
  return 0;
};

async function writeAll(
  reading: LogReading,
  limit: number,
  output: ChunkedOutput,
  writeEntry: WriteEntry,
): Promise<void> {
  let left = limit;
  for await (const batch of reading.batches()) {
    for (const entry of batch) {
      writeEntry(entry);
      if (--left > 0) continue;
      output.flush();
      return;
    }
    output.flush();
  }
}

function limitOf(options: ReadonlyMap<string, string>): number {
  return wholeNumber("limit", options.get("limit")) ?? Infinity;
}

function writerFor(
  output: ChunkedOutput,
  { logs }: LogSource,
  { options, stdout }: CommandContext,
): WriteEntry {
  const write = (text: string) => output.write(text);
  if (options.has("json")) return jsonLines(write);
  const lastOffset = Math.max(0, ...logs.map(({ endOffset }) => endOffset));
  return shownLines(write, { lastOffset, isCut: stdout.isTty });
}

/** Gathers text, so that a line isn't a write of its own. */
class ChunkedOutput {
  readonly #sink: (text: string) => void;
  #texts: string[] = [];
  #characters = 0;

  constructor(sink: (text: string) => void) {
    this.#sink = sink;
  }

  write(text: string): void {
    this.#texts.push(text);
    this.#characters += text.length;
    if (this.#characters >= CHUNK_CHARACTERS) this.flush();
  }

  flush(): void {
    if (this.#characters === 0) return;
    const text = this.#texts.join("");
    this.#texts = [];
    this.#characters = 0;
    this.#sink(text);
  }
}

async function readingOptions(
  source: LogSource,
  context: CommandContext,
): Promise<LogReadingOptions> {
  const { options, signal } = context;
  const isFollowing = options.has("follow");
  if (isFollowing && options.has("to")) {
    throw usageError("give --to or --follow, not both: what is followed has no end");
  }
  const keys = valuesOf(options, "key");
  if (keys.some((pattern) => Buffer.byteLength(pattern) > MAX_PATTERN_BYTES)) {
    throw usageError(`a pattern of --key has up to ${MAX_PATTERN_BYTES} bytes`);
  }
  const commands = valuesOf(options, "command");
  const db = wholeNumber("db", options.get("db"));
  return {
    ...(keys.length === 0 ? {} : { keys }),
    ...(commands.length === 0 ? {} : { commands }),
    ...(db === undefined ? {} : { db }),
    isAll: options.has("all"),
    isFollowing,
    from: await boundOf("from", source, context),
    to: await boundOf("to", source, context),
    onGap: (message) => logger.warn(message),
    onRemoved: (message) => logger.warn(message),
    onTrouble: (message) => logger.warn(message),
    signal,
  };
}

/**
 * The time or the offset that an option gives. A number alone is that one of both that is kept: a guess could be wrong.
 * @throws ReplicaError USAGE.
 */
async function boundOf(
  option: "from" | "to",
  source: LogSource,
  context: CommandContext,
): Promise<LogBound | undefined> {
  const text = context.options.get(option);
  if (text === undefined) return undefined;
  const { logs } = source;
  const kept = [keptOffsetsOf(logs), keptTimesOf(logs)].filter((clause) => clause !== undefined);
  const named = /^offset:(.*)$/s.exec(text)?.[1];
  if (named !== undefined) return { offset: wholeNumber(`${option} offset:`, named)! };
  if (/^\d+$/.test(text)) {
    const offset = Number(text);
    const isOffset = holderOf(logs, offset) !== undefined;
    const isTime = isKeptTime(text, source, context.clock.now());
    if (isOffset && isTime) {
      throw usageError(
        `--${option} ${text} is a kept offset, and a kept time as well: write offset:${text}, or the time as ISO 8601`,
      );
    }
    if (isOffset) {
      tell(`--${option} ${text} is an offset`, context);
      return { offset };
    }
    if (!isTime) {
      const why = `--${option} is ${text.slice(0, 100)}, which is neither an offset nor a time that is kept`;
      throw usageError([why, ...kept].join("; "));
    }
  }
  const described = async () => ["or offset:N", ...kept].join("; ");
  const atMs = await timeOf(option, text, described, context);
  const first = keptTimes(logs)?.fromMs ?? -Infinity;
  if (option === "from" && atMs < first) {
    tell(`what is kept begins later, at ${shownTime(first)}`, context);
  }
  return { atMs };
}

function isKeptTime(text: string, { logs }: LogSource, nowMs: number): boolean {
  const parsed = parseTime(text, nowMs);
  const kept = keptTimes(logs);
  if (!("atMs" in parsed) || kept === undefined) return false;
  return parsed.atMs >= kept.fromMs && parsed.atMs <= Math.max(kept.toMs, nowMs);
}

async function openSource(name: string, context: CommandContext): Promise<LogSource> {
  if (isArchiveUrl(name)) return await openArchived(name, context);
  if (isClusterDirectory(name)) throw wholeCluster(name);
  const { DirectoryLogs } = await import("../../inspect/log/directory-logs.ts");
  const source = new DirectoryLogs(name, realDisk);
  for (const loss of source.catalogue.losses) logger.warn(describeDamage(loss));
  return source;
}

async function openArchived(url: string, context: CommandContext): Promise<LogSource> {
  // What reads an archive is large.
  const [{ openArchive }, { openClusterArchive }, { ArchivedLogs }] = await Promise.all([
    import("../../archive/open/open-archive.ts"),
    import("../clusters/fetched-cluster.ts"),
    import("../../inspect/log/archived-logs.ts"),
  ]);
  if ((await openClusterArchive(url, context)) !== undefined) throw wholeCluster(url);
  const source = await ArchivedLogs.open(await openArchive(url, context), context.signal);
  for (const warning of source.warnings()) logger.warn(warning);
  return source;
}

function wholeCluster(source: string): ReplicaError {
  return usageError(
    `${source} holds a whole cluster, and a log is that of one shard: replica log ${source.replace(/\/+$/, "")}/shards/0001`,
  );
}
