import { basename } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import type { ServerProgram } from "../../stock/server-program.ts";
import { fileByteOf, filesOf, offsetOfByte } from "../../store/generation/layout.ts";
import { type Catalogue, isGone } from "../../store/restore/catalogue.ts";
import type { KeptGeneration } from "../../store/restore/kept-generation.ts";
import type { RestorePoint } from "../../store/restore/restore-point.ts";
import { scanSoundLog } from "../../store/restore/write-log.ts";
import { checkBase } from "./base-damage.ts";
import { ChosenKeys, type FoundHow } from "./chosen-keys.ts";
import { findNeeds } from "../needs/log-needs.ts";
import type { Obstacle } from "../needs/group-memory.ts";
import { NeededNames, type NameLimits } from "../needs/needed-names.ts";
import type { ChooseOptions, Replay, ReplayedRdb } from "./replay.ts";
import { replayChosen } from "./replay-chosen.ts";
import { replayWhole } from "./replay-whole.ts";
import { KeyMatcher, type Selection } from "../needs/selection.ts";

/** As much memory as this process may take for names: a chosen key needs a few others. */
const DEFAULT_NAME_LIMITS: NameLimits = {
  neededBytes: 32 * 1024 * 1024,
  groupBytes: 16 * 1024 * 1024,
};

/**
 * Finds the chosen keys as of a point, with memory in proportion to them and not to the data. Where no command up to the
 * point touches them, they are read from the snapshot. Else a private stock server replays what the log does to them and to
 * those that they are made from; and all of the log, with all of the data, where the log alone doesn't tell which these are.
 * @throws ReplicaError DIRECTORY_DAMAGED, saying what can be had nevertheless; SERVER_FAILED where a server is needed and there
 * is none, or it fails; RESTORE_UNUSABLE where it can't load the data; DISK_FULL, DISK_FAILED; the signal's reason.
 */
export async function chooseKeys(
  catalogue: Catalogue,
  point: RestorePoint,
  selection: Selection,
  options: ChooseOptions,
): Promise<ChosenKeys> {
  const { generation } = point;
  try {
    return await choose(catalogue, point, selection, options);
  } catch (cause) {
    options.signal.throwIfAborted();
    if (isGone(catalogue.path, generation.id)) throw goneError(generation);
    throw cause;
  }
}

/** Its marks go first, then its files one by one. */
function goneError({ id }: KeptGeneration): ReplicaError {
  return new ReplicaError("DISK_FAILED", {
    retry: "never",
    message: `generation ${id} was removed while its keys were read: choose another generation, or keep more with --keep`,
  });
}

async function choose(
  catalogue: Catalogue,
  point: RestorePoint,
  selection: Selection,
  options: ChooseOptions,
): Promise<ChosenKeys> {
  const { disk, signal } = options;
  const { generation } = point;
  const { base, log: path } = filesOf(generation);
  const matcher = new KeyMatcher(selection);
  await checkBase(generation, (db, key) => matcher.chooses(db, key), options);
  const findings = await scanSoundLog(catalogue, point, options, () => undefined);
  // What follows needs the memory.
  options.checkers?.rest();
  const safeCut = findings?.safeCut ?? fileByteOf(generation, generation.baseOffset);
  const offset = offsetOfByte(generation, safeCut);
  const atMs = (catalogue.momentOf(generation.id, offset) ?? generation.last)?.atMs;
  const needed = new NeededNames(matcher, options.limits ?? DEFAULT_NAME_LIMITS);
  const file = `names in ${basename(path)}`;
  const onProgress = (byte: number) => options.onProgress(file, byte, safeCut);
  const reading = { disk, path, from: 0, to: safeCut, signal, onProgress };
  const needs = findings && (await findNeeds(reading, needed));
  const rdb =
    findings === undefined || needs === undefined || !(needs.isTouched || needs.obstacle)
      ? { how: "base" as const, path: base, replayedCommands: 0, remove: async () => undefined }
      : await replayed({ catalogue, point, findings, needed, options }, needs.obstacle);
  try {
    const about = { generation, offset, atMs, how: rdb.how, pulledIn: needed.pulledIn };
    return new ChosenKeys(about, rdb, matcher, options);
  } catch (cause) {
    await rdb.remove();
    throw cause;
  }
}

async function replayed(
  choice: Omit<Replay, "server">,
  obstacle: Obstacle | undefined,
): Promise<ReplayedRdb & { readonly how: FoundHow }> {
  const { point, options } = choice;
  const replay = { ...choice, server: await neededServer(point.generation, obstacle, options) };
  if (obstacle === undefined) return { how: "replayed", ...(await replayChosen(replay)) };
  return { how: "whole", ...(await replayWhole(replay, obstacle)) };
}

/** @throws ReplicaError what finding it throws, with why it is needed. */
async function neededServer(
  generation: KeptGeneration,
  obstacle: Obstacle | undefined,
  { server }: ChooseOptions,
): Promise<ServerProgram> {
  try {
    return await server();
  } catch (error) {
    if (!(error instanceof ReplicaError)) throw error;
    const why =
      obstacle === undefined
        ? "the log up to that moment changes these keys, and a stock server has to replay that"
        : `a stock server has to replay the log up to that moment: ${obstacle.what} (after offset ${offsetOfByte(generation, obstacle.byte)})`;
    const { code, retry, message } = error;
    throw new ReplicaError(code, { retry, message: `${why}: ${message}`, cause: error });
  }
}
