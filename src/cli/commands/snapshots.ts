import { logger } from "../../base/logger.ts";
import { Catalogue, cutShortNote } from "../../store/restore/catalogue.ts";
import { keptSnapshot } from "../../inspect/snapshots/kept-snapshot.ts";
import { snapshotToJson } from "../../inspect/snapshots/snapshot.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import type { Archive } from "../../archive/reader/archive.ts";
import { type Listed, snapshotTables } from "../archives/snapshot-tables.ts";
import { isArchiveUrl } from "../../archive/open/archive-url.ts";
import { isClusterDirectory } from "../clusters/cluster-source.ts";
import type { CommandContext, RunCommand } from "./command.ts";

/** `replica snapshots SOURCE`: lists what can be restored from a data directory or an archive. */
export const snapshots: RunCommand = async (context) => {
  const { args, options, stdout } = context;
  const [source = ""] = args;
  if (isArchiveUrl(source)) {
    // What reads an archive is large.
    const [{ openArchive }, { listing: archived }] = await Promise.all([
      import("../../archive/open/open-archive.ts"),
      import("../archives/list-archive.ts"),
    ]);
    const isJson = options.has("json");
    const { openClusterArchive } = await import("../clusters/fetched-cluster.ts");
    const cluster = await openClusterArchive(source, context);
    if (cluster !== undefined) {
      const { reportShards } = await import("../clusters/archived-shards.ts");
      const list = async (shard: Archive) => ({
        isSound: true,
        report: await archived(shard, isJson, context.signal),
      });
      const { report } = await reportShards(
        { url: source, archive: cluster, isJson, checksLayouts: false },
        context,
        list,
      );
      stdout.write(report);
      return 0;
    }
    stdout.write(await archived(await openArchive(source, context), isJson, context.signal));
    return 0;
  }
  if (isClusterDirectory(source)) return await listCluster(source, context);
  using catalogue = new Catalogue(source);
  const warnings = warn(catalogue);
  const generations = catalogue.generations.map(keptSnapshot);
  if (options.has("json")) stdout.write(`${JSON.stringify(listing(catalogue, warnings))}\n`);
  else if (generations.length === 0) stdout.write(`${catalogue.path} keeps no snapshot yet\n`);
  else stdout.write(snapshotTables(generations.map((snapshot) => ({ snapshot }))));
  return 0;
};

async function listCluster(dir: string, { options, stdout }: CommandContext): Promise<number> {
  const { clusterContent, describeLayouts, layoutsToJson } =
    await import("../clusters/shards-in.ts");
  const content = clusterContent(dir);
  const listed: Listed[] = [];
  const shards: object[] = [];
  for (const { number, name, path, ended } of content.shards) {
    using catalogue = new Catalogue(path);
    const warnings = warn(catalogue, `shard ${name}: `);
    const generations = catalogue.generations.map(keptSnapshot);
    listed.push(...generations.map((snapshot) => ({ snapshot, shard: { name, ended } })));
    shards.push({ shard: number, ended: ended ?? null, ...listing(catalogue, warnings) });
  }
  if (options.has("json")) {
    const all = { dir: content.path, layouts: layoutsToJson(content), shards };
    stdout.write(`${JSON.stringify(all)}\n`);
    return 0;
  }
  stdout.write(
    listed.length === 0 ? `${content.path} keeps no snapshot yet\n` : snapshotTables(listed),
  );
  stdout.write(describeLayouts(content));
  return 0;
}

/** Warns of what is lost; returns it. */
function warn(catalogue: Catalogue, whose = ""): string[] {
  const warnings = catalogue.losses.map(describeDamage);
  for (const warning of warnings) logger.warn(whose + warning);
  const note = cutShortNote(catalogue);
  if (note !== undefined) logger.info(whose + note);
  return warnings;
}

function listing({ path, generations }: Catalogue, warnings: readonly string[]) {
  return { dir: path, warnings, generations: generations.map(keptSnapshot).map(snapshotToJson) };
}
