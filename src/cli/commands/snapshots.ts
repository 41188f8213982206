import { logger } from "../../base/logger.ts";
import { printable } from "../../base/printable.ts";
import { formatBytes } from "../../base/quantity.ts";
import { Catalogue, cutShortNote } from "../../store/restore/catalogue.ts";
import { keptSnapshot } from "../../inspect/snapshots/kept-snapshot.ts";
import { type Snapshot, snapshotToJson } from "../../inspect/snapshots/snapshot.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import type { Archive } from "../../archive/reader/archive.ts";
import { isArchiveUrl } from "../../archive/open/archive-url.ts";
import { isClusterDirectory } from "../clusters/cluster-source.ts";
import type { CommandContext, RunCommand } from "./command.ts";
import { table } from "../terminal/table.ts";

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
  else {
    stdout.write(table(TITLES, generations.map(rowOf)));
    stdout.write(`\n${table(ORIGIN_TITLES, generations.map(originOf))}`);
  }
  return 0;
};

async function listCluster(dir: string, { options, stdout }: CommandContext): Promise<number> {
  const { clusterContent, describeLayouts, layoutsToJson } =
    await import("../clusters/shards-in.ts");
  const content = clusterContent(dir);
  const rows: (string | number)[][] = [];
  const origins: (string | number)[][] = [];
  const shards: object[] = [];
  for (const { number, name, path, ended } of content.shards) {
    using catalogue = new Catalogue(path);
    const warnings = warn(catalogue, `shard ${name}: `);
    const generations = catalogue.generations.map(keptSnapshot);
    rows.push(...generations.map((one) => [name, ...rowOf(one), ended ?? ""]));
    origins.push(...generations.map((one) => [name, ...originOf(one)]));
    shards.push({ shard: number, ended: ended ?? null, ...listing(catalogue, warnings) });
  }
  if (options.has("json")) {
    const all = { dir: content.path, layouts: layoutsToJson(content), shards };
    stdout.write(`${JSON.stringify(all)}\n`);
    return 0;
  }
  if (rows.length === 0) stdout.write(`${content.path} keeps no snapshot yet\n`);
  else {
    stdout.write(table(["shard", ...TITLES, "shard ended"], rows));
    stdout.write(`\n${table(["shard", ...ORIGIN_TITLES], origins)}`);
  }
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

const TITLES = [
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

/** Where each comes from, in a table of its own: both together would be too wide for any terminal. */
const ORIGIN_TITLES = ["id", "primary", "server", "rdb"];

function rowOf(snapshot: Snapshot): (string | number)[] {
  return [
    snapshot.id,
    snapshot.state,
    timeOf(snapshot.fromMs),
    timeOf(snapshot.toMs),
    snapshot.fromOffset,
    snapshot.toOffset,
    formatBytes(snapshot.rdbBytes),
    formatBytes(snapshot.logBytes),
    snapshot.sealedReason ?? "",
  ];
}

function originOf({ id, primary, primaryVersion, rdbFormat }: Snapshot) {
  return [id, printable(primary ?? "unknown"), primaryVersion ?? "unknown", rdbFormat ?? "unknown"];
}

function listing({ path, generations }: Catalogue, warnings: readonly string[]) {
  return { dir: path, warnings, generations: generations.map(keptSnapshot).map(snapshotToJson) };
}

function timeOf(ms: number | undefined): string {
  return ms === undefined ? "unknown" : new Date(ms).toISOString();
}
