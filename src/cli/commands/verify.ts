import { type Stats, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { counted, formatBytes } from "../../base/quantity.ts";
import type { RdbSummary } from "../../rdb/checker.ts";
import { Catalogue, cutShortNote, isGone } from "../../store/restore/catalogue.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { PieceCheckers } from "../../store/pieces/piece-checkers.ts";
import {
  type GenerationFindings,
  verifyCatalogue,
  verifyGeneration,
  verifyRdb,
  type VerifyOptions,
} from "../../store/restore/verify.ts";
import { isArchiveUrl, refuseQuick } from "../archives/archive-source.ts";
import type { CommandContext, RunCommand } from "./command.ts";
import { fileProgress } from "./file-progress.ts";
import { type Damage, describeDamage } from "../../store/restore/damage.ts";
import type { KeptGeneration } from "../../store/restore/kept-generation.ts";
import { DATABASE } from "../../store/generation/layout.ts";
import { hex64 } from "../../base/hex64.ts";

const LOOKS = 5;
const LOOK_EVERY_MS = 200;

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
    return isDirectory(path)
      ? await verifyDirectory(path, context, surroundings)
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
  const archive = await openArchive(url, context);
  const progress = fileProgress(stderr, settings.progress);
  const how = { quick: options.has("quick"), signal, onProgress: progress.look };
  try {
    const { isSound, report: text } = await checkArchive(archive, options.has("json"), how);
    stdout.write(text);
    return isSound ? 0 : DAMAGED;
  } finally {
    progress.end();
  }
}

/** Refuses anything but files and directories: opening a pipe without a writer would wait forever. */
function isDirectory(path: string): boolean {
  let found: Stats;
  try {
    found = statSync(path);
  } catch (cause) {
    const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    throw usageError(
      `can't open ${path}: ${isMissing ? "there is no such file or directory" : String(cause)}`,
      cause,
    );
  }
  if (found.isFile() || found.isDirectory()) return found.isDirectory();
  throw usageError(
    `${path} is neither a file nor a directory: give an RDB file or a data directory`,
  );
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
  if (!options.has("json")) return;
  const file = join(path, DATABASE);
  const what = message.replace(`${file} `, "it ");
  const meaning = "nothing can be restored until the database is moved away";
  stdout.write(
    `${JSON.stringify(damagedToJson(path, { file, byte: undefined, what, meaning }))}\n`,
  );
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

async function verifyDirectory(
  path: string,
  { options, stdout }: CommandContext,
  surroundings: VerifyOptions,
): Promise<number> {
  const { damages, notes } = await lastingFindings(path, surroundings.signal);
  using catalogue = new Catalogue(path);
  const found: GenerationFindings[] = [];
  for (const generation of catalogue.generations) {
    const findings = await findingsOf(catalogue, generation, surroundings);
    if (findings === undefined) {
      logger.info(`generation ${generation.id} was removed in the meantime`);
      continue;
    }
    found.push(findings);
    damages.push(...findings.damages);
  }
  const all = { catalogue, found, damages, notes };
  stdout.write(options.has("json") ? `${JSON.stringify(toJson(all))}\n` : report(all));
  return damages.length === 0 ? 0 : DAMAGED;
}

/** What is wrong, or worth telling, for good. While a generation becomes current, its link briefly precedes its row. */
async function lastingFindings(
  path: string,
  signal: AbortSignal,
): Promise<{ damages: Damage[]; notes: string[] }> {
  for (let left = LOOKS; ; left--) {
    using catalogue = new Catalogue(path);
    const damages = await verifyCatalogue(catalogue, signal);
    const notes = [cutShortNote(catalogue) ?? []].flat();
    if (damages.length + notes.length === 0 || left === 0) return { damages, notes };
    await Bun.sleep(LOOK_EVERY_MS);
  }
}

/** Undefined if a running replica has removed the generation in the meantime. */
async function findingsOf(
  catalogue: Catalogue,
  generation: KeptGeneration,
  surroundings: VerifyOptions,
): Promise<GenerationFindings | undefined> {
  try {
    const findings = await verifyGeneration(catalogue, generation, surroundings);
    if (findings.damages.length === 0 || !isGone(catalogue.path, generation.id)) return findings;
  } catch (error) {
    if (surroundings.signal.aborted || !isGone(catalogue.path, generation.id)) throw error;
  }
  return undefined;
}

/** All that a report tells of a data directory. */
interface DirectoryFindings {
  readonly catalogue: Catalogue;
  readonly found: readonly GenerationFindings[];
  readonly damages: readonly Damage[];
  /** What looks like damage, and isn't. */
  readonly notes: readonly string[];
}

function report({ catalogue, found, damages, notes }: DirectoryFindings): string {
  const lines = found.flatMap(({ generation, rdb, log: commands, restorableOffset }) => [
    `generation ${generation.id} (${generation.state})`,
    `  snapshot  ${rdb === undefined ? "damaged" : describeRdb(rdb)}`,
    `  log       ${commands === undefined ? "missing" : `${counted(commands.commands, "command")}, ${formatBytes(commands.bytes)}${unchecked(commands.uncheckedBytes)}${commands.damage === undefined ? "" : ", then damaged"}`}`,
    `  restores  ${restorableOffset === undefined ? "nothing" : `offset ${generation.baseOffset} to ${restorableOffset}`}`,
  ]);
  for (const note of notes) lines.push(`note: ${note}`);
  for (const damage of damages) lines.push(`damaged: ${describeDamage(damage)}`);
  if (found.length === 0) lines.push(`${catalogue.path} keeps no snapshot yet`);
  else if (damages.length === 0) lines.push(`${catalogue.path}: no damage found`);
  return `${lines.join("\n")}\n`;
}

function unchecked(bytes: number): string {
  return bytes === 0 ? "" : ` (${formatBytes(bytes)} of it without a checksum)`;
}

function toJson({ catalogue, found, damages, notes }: DirectoryFindings) {
  return {
    path: catalogue.path,
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
