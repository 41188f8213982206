import type { Archive } from "../../archive/reader/archive.ts";
import type { ClusterArchive } from "../../cluster/archive/cluster-archive.ts";
import { SHARDS } from "../../cluster/archive/layout-names.ts";
import { ReplicaError } from "../../base/errors.ts";
import { type Damage, describeDamage } from "../../store/restore/damage.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import { type ClusterArchiveContext, openShardArchive } from "./fetched-cluster.ts";

/** What is told of one shard's archive. */
export interface ShardReport {
  readonly isSound: boolean;
  /** Text, or JSON of one line. */
  readonly report: string;
}

/** Of what a report is wanted, and how. */
export interface WantedReport {
  readonly url: string;
  readonly archive: ClusterArchive;
  readonly isJson: boolean;
  /** Whether the documents of layouts are read, too. */
  readonly checksLayouts: boolean;
}

/**
 * Reports each shard of a cluster's archive, as text under its name, or as JSON. One that can't be read at all doesn't
 * keep the others from it.
 * @param about what is reported of one.
 * @returns whether all are sound, too.
 * @throws ReplicaError of the store; the signal's reason.
 */
export async function reportShards(
  { url, archive, isJson, checksLayouts }: WantedReport,
  context: ClusterArchiveContext,
  about: (archive: Archive) => Promise<ShardReport>,
): Promise<ShardReport> {
  const { signal } = context;
  const { folders } = await archive.source.list(SHARDS, signal);
  const reports: { readonly name: string; readonly told: ShardReport }[] = [];
  for (const name of folders.toSorted()) {
    reports.push({ name, told: await reportOf(url, name, isJson, context, about) });
  }
  const layouts = archive.directories.map(({ name, documents }) => ({
    directory: name,
    documents: documents.length,
    to_time: shownTime(documents.at(-1)!.toMs),
  }));
  const damages = checksLayouts ? await layoutDamages(archive, signal) : [];
  const isSound = damages.length === 0 && reports.every(({ told }) => told.isSound);
  if (isJson) {
    const shards = reports.map(({ name, told }) => ({
      shard: name,
      ...(JSON.parse(told.report) as object),
    }));
    const checked = checksLayouts ? { ok: isSound, damages: damages.map(damageToJson) } : {};
    return {
      isSound,
      report: `${JSON.stringify({ archive: url, ...checked, layouts, shards })}\n`,
    };
  }
  const texts = reports.map(({ name, told }) => `shard ${name}\n${told.report}`);
  const looks = layouts.map(
    ({ directory, to_time }) => `layouts of the directory ${directory} up to ${to_time}\n`,
  );
  if (layouts.length === 0) {
    looks.push(
      "note: there is no layout: no moment of the whole cluster can be restored, shards can\n",
    );
  }
  const faults = damages.map((one) => `damaged: ${describeDamage(one)}\n`);
  return { isSound, report: [...texts, ...looks, ...faults].join("") };
}

async function layoutDamages(archive: ClusterArchive, signal: AbortSignal): Promise<Damage[]> {
  const damages: Damage[] = [];
  for (const one of archive.directories) damages.push(...(await archive.damagesOf(one, signal)));
  return damages;
}

function damageToJson({ file, what, meaning }: Damage) {
  return { file, byte: null, what, meaning };
}

async function reportOf(
  url: string,
  name: string,
  isJson: boolean,
  context: ClusterArchiveContext,
  about: (archive: Archive) => Promise<ShardReport>,
): Promise<ShardReport> {
  const isDamage = (error: unknown, ...codes: readonly string[]): error is ReplicaError => {
    context.signal.throwIfAborted();
    return error instanceof ReplicaError && codes.includes(error.code);
  };
  const damaged = ({ message }: ReplicaError): ShardReport => ({
    isSound: false,
    report: isJson ? JSON.stringify({ ok: false, error: message }) : `damaged: ${message}\n`,
  });
  let archive: Archive;
  try {
    archive = await openShardArchive(url, name, context);
  } catch (error) {
    // A folder that is no archive, too.
    if (isDamage(error, "ARCHIVE_DAMAGED", "USAGE")) return damaged(error);
    throw error;
  }
  try {
    return await about(archive);
  } catch (error) {
    // Without the identity nothing can be said of any shard: that is told once.
    if (isDamage(error, "ARCHIVE_DAMAGED")) return damaged(error);
    throw error;
  }
}
