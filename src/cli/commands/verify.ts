import { join, resolve } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { counted, formatBytes } from "../../base/quantity.ts";
import type { RdbSummary } from "../../rdb/checker.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { PieceCheckers } from "../../store/pieces/piece-checkers.ts";
import { verifyRdb, type VerifyOptions } from "../../store/restore/verify.ts";
import { type DirectoryFindings, verifyDirectory } from "../../inspect/verify/verify-directory.ts";
import type { Archive } from "../../archive/reader/archive.ts";
import { isArchiveUrl } from "../../archive/open/archive-url.ts";
import { isDirectory } from "../archives/local-source.ts";
import { refuseQuick } from "../archives/archive-source.ts";
import { isClusterDirectory } from "../clusters/cluster-source.ts";
import type { CommandContext, RunCommand } from "./command.ts";
import { fileProgress } from "./file-progress.ts";
import { type Damage, describeDamage } from "../../store/restore/damage.ts";
import { DATABASE } from "../../store/generation/layout.ts";
import { hex64 } from "../../base/hex64.ts";

/** What it takes, for an error. */
const TAKES = "an RDB file or a data directory";

/** The exit code if what was checked is damaged. */
const DAMAGED = 3;

/** `replica verify SOURCE`: checks an RDB file, or everything in a data directory or an archive. */
export const verify: RunCommand = async (context) => {
  const { args, stderr, settings, signal } = context;
  const path = args[0]!;
  if (isArchiveUrl(path)) return await verifyArchived(path, context);
  refuseQuick(path, context.options);
  const progress = fileProgress(stderr, settings.progress);
  using checkers = new PieceCheckers({ signal });
  const onProgress = progress.look;
  const surroundings: VerifyOptions = { disk: realDisk, signal, onProgress, checkers };
  try {
    if (isClusterDirectory(path)) return await verifyCluster(path, context, surroundings);
    return isDirectory(path, TAKES)
      ? await verifyOneDirectory(path, context, surroundings)
      : await verifyFile(path, context, surroundings);
  } catch (error) {
    // Even if the database can't be read, programs that wait for JSON get an answer.
    if (isDirectoryDamage(error)) reportUnreadable(context, resolve(path), error.message);
    throw error;
  } finally {
    progress.end();
  }
};

async function verifyArchived(url: string, context: CommandContext): Promise<number> {
  const { options, settings, signal, stdout, stderr } = context;
  // What reads an archive is large.
  const [{ openArchive }, { checkArchive }] = await Promise.all([
    import("../../archive/open/open-archive.ts"),
    import("../archives/check-archive.ts"),
  ]);
  const isJson = options.has("json");
  const { openClusterArchive } = await import("../clusters/fetched-cluster.ts");
  const cluster = await openClusterArchive(url, context);
  const progress = fileProgress(stderr, settings.progress);
  const how = { quick: options.has("quick"), signal, onProgress: progress.look };
  const check = async (one: Archive) => await checkArchive(one, isJson, how);
  try {
    const { isSound, report: text } = await (async () => {
      if (cluster === undefined) return await check(await openArchive(url, context));
      const { reportShards } = await import("../clusters/archived-shards.ts");
      return await reportShards(
        { url, archive: cluster, isJson, checksLayouts: true },
        context,
        check,
      );
    })();
    stdout.write(text);
    return isSound ? 0 : DAMAGED;
  } finally {
    progress.end();
  }
}

function isDirectoryDamage(error: unknown): error is ReplicaError {
  return error instanceof ReplicaError && error.code === "DIRECTORY_DAMAGED";
}

/** Reports a database that can't be read; `message` is all that is known about it. */
function reportUnreadable(
  { options, stdout }: CommandContext,
  path: string,
  message: string,
): void {
  if (options.has("json")) stdout.write(`${JSON.stringify(unreadableToJson(path, message))}\n`);
}

function unreadableToJson(path: string, message: string) {
  const file = join(path, DATABASE);
  const what = message.replace(`${file} `, "it ");
  const meaning = "nothing can be restored until the database is moved away";
  return damagedToJson(path, { file, byte: undefined, what, meaning });
}

async function verifyFile(
  path: string,
  { options, stdout }: CommandContext,
  surroundings: VerifyOptions,
): Promise<number> {
  try {
    const rdb = await verifyRdb(path, surroundings);
    stdout.write(
      options.has("json")
        ? `${JSON.stringify({ path, ok: true, ...rdbToJson(rdb) })}\n`
        : `${path}: ${describeRdb(rdb)}\n`,
    );
    return 0;
  } catch (error) {
    const isDamage =
      error instanceof ReplicaError &&
      (error.code === "BAD_PAYLOAD" || error.code === "BAD_CHECKSUM");
    if (!isDamage) throw error;
    const what = error.message;
    const damage = { file: path, byte: undefined, what, meaning: "a server refuses to load it" };
    stdout.write(
      options.has("json")
        ? `${JSON.stringify(damagedToJson(path, damage))}\n`
        : `${path}: damaged: ${what}\n`,
    );
    return DAMAGED;
  }
}

function describeRdb({ header, bytes, crc64, checked }: RdbSummary): string {
  const sum = checked
    ? `checksum ${hex64(crc64)} verified`
    : "it has no checksum: only its start and its end can be checked";
  return `${header.magic} version ${header.version}, ${formatBytes(bytes)}, ${sum}`;
}

function rdbToJson({ header, bytes, crc64, checked }: RdbSummary) {
  const { magic, version } = header;
  return { magic, version, bytes, crc64: hex64(crc64), checked };
}

async function verifyOneDirectory(
  path: string,
  { options, stdout }: CommandContext,
  surroundings: VerifyOptions,
): Promise<number> {
  const found = await verifyDirectory(path, surroundings);
  stdout.write(options.has("json") ? `${JSON.stringify(toJson(found))}\n` : report(found));
  return found.damages.length === 0 ? 0 : DAMAGED;
}

/** Checks each shard of a cluster's directory; one that can't be read at all doesn't keep the others from it. */
async function verifyCluster(
  dir: string,
  { options, stdout }: CommandContext,
  surroundings: VerifyOptions,
): Promise<number> {
  const { clusterContent, describeLayouts, layoutsToJson } =
    await import("../clusters/shards-in.ts");
  const content = clusterContent(dir);
  const isJson = options.has("json");
  const shards: object[] = [];
  let isSound = true;
  for (const { number, name, path } of content.shards) {
    try {
      const found = await verifyDirectory(path, surroundings);
      isSound &&= found.damages.length === 0;
      if (isJson) shards.push({ shard: number, ...toJson(found) });
      else stdout.write(`shard ${name}\n${report(found)}`);
    } catch (error) {
      if (!isDirectoryDamage(error)) throw error;
      isSound = false;
      if (isJson) shards.push({ shard: number, ...unreadableToJson(path, error.message) });
      else stdout.write(`shard ${name}\ndamaged: ${error.message}\n`);
    }
  }
  const all = { path: content.path, ok: isSound, layouts: layoutsToJson(content), shards };
  stdout.write(isJson ? `${JSON.stringify(all)}\n` : describeLayouts(content));
  return isSound ? 0 : DAMAGED;
}

function report({ path, found, damages, notes }: DirectoryFindings): string {
  const lines = found.flatMap(({ generation, rdb, log: commands, restorableOffset }) => [
    `generation ${generation.id} (${generation.state})`,
    `  snapshot  ${rdb === undefined ? "damaged" : describeRdb(rdb)}`,
    `  log       ${commands === undefined ? "missing" : `${counted(commands.commands, "command")}, ${formatBytes(commands.bytes)}${unchecked(commands.uncheckedBytes)}${commands.damage === undefined ? "" : ", then damaged"}`}`,
    `  restores  ${restorableOffset === undefined ? "nothing" : `offset ${generation.baseOffset} to ${restorableOffset}`}`,
  ]);
  for (const note of notes) lines.push(`note: ${note}`);
  for (const damage of damages) lines.push(`damaged: ${describeDamage(damage)}`);
  if (found.length === 0) lines.push(`${path} keeps no snapshot yet`);
  else if (damages.length === 0) lines.push(`${path}: no damage found`);
  return `${lines.join("\n")}\n`;
}

function unchecked(bytes: number): string {
  return bytes === 0 ? "" : ` (${formatBytes(bytes)} of it without a checksum)`;
}

function toJson({ path, found, damages, notes }: DirectoryFindings) {
  return {
    path,
    ok: damages.length === 0,
    generations: found.map(
      ({ generation, rdb, log: commands, restorableOffset, damages: own }) => ({
        id: generation.id,
        state: generation.state,
        ok: own.length === 0,
        from_offset: generation.baseOffset,
        to_offset: restorableOffset ?? null,
        rdb: rdb === undefined ? null : rdbToJson(rdb),
        log:
          commands === undefined
            ? null
            : {
                commands: commands.commands,
                bytes: commands.bytes,
                unchecked_bytes: commands.uncheckedBytes,
              },
      }),
    ),
    damages: damages.map(damageToJson),
    notes,
  };
}

/** The report if nothing else could be checked. */
function damagedToJson(path: string, damage: Damage) {
  return { path, ok: false, damages: [damageToJson(damage)] };
}

function damageToJson({ file, byte, what, meaning }: Damage) {
  return { file, byte: byte ?? null, what, meaning };
}
