/** Number of syncs of a replica, by kind. */
export interface Syncs {
  full: number;
  partial: number;
}

/** The result of a soak; all numbers are totals of the run. */
export interface Report {
  readonly seed: number;
  /** With its exact version: `redis-7.0 (7.0.15)`. */
  readonly server: string;
  readonly replica: "source" | "compiled";
  readonly minutes: number;
  readonly seconds: number;
  /** Number of faults, by kind. */
  readonly faults: Readonly<Record<string, number>>;
  readonly syncs: { readonly replica: Syncs; readonly downstreams: Syncs };
  readonly generations: number;
  /** Bytes received, and bytes sent to the downstreams. */
  readonly bytes: { readonly snapshots: number; readonly stream: number; readonly relayed: number };
  readonly load: {
    readonly commands: number;
    readonly expiredKeys: number;
    readonly evictedKeys: number;
  };
  /** Number of comparisons with the primary at the same offset. */
  readonly comparisons: Readonly<Record<ComparisonKind, number>>;
  /** Number of kills after which the replica's files were checked against what it had acknowledged. */
  readonly acknowledgedChecks: number;
  /** How many of these were followed by a partial resync after the acknowledged offset. */
  readonly resumeChecks: number;
  /** Number of comparisons that differ, and of acknowledgements whose bytes are missing. */
  readonly lost: number;
  /** One line per problem, losses included. */
  readonly problems: readonly string[];
  /** The folder with all logs and files, if there is a problem. */
  readonly evidence: string | undefined;
}

/** What is compared: a restored copy, one of an earlier moment, or a server that follows the replica. */
export type ComparisonKind = "restored" | "earlier" | "downstream";

/** The report as text. */
export function reportText(report: Report): string {
  const { syncs, bytes, load, comparisons } = report;
  const faults = Object.entries(report.faults).map(([kind, count]) => `${count} ${kind}`);
  const mebibytes = (count: number) => `${(count / 2 ** 20).toFixed(1)} MiB`;
  const lines = [
    `seed          ${report.seed}`,
    `server        ${report.server}, replica from its ${report.replica === "source" ? "source" : "compiled program"}`,
    `time          ${report.seconds.toFixed(0)} s (${report.minutes} min requested)`,
    `load          ${load.commands} commands; ${load.expiredKeys} keys expired, ${load.evictedKeys} evicted`,
    `faults        ${faults.join(", ")}`,
    `syncs         ${syncs.replica.full} full, ${syncs.replica.partial} partial; ${report.generations} generations`,
    `  downstream  ${syncs.downstreams.full} full, ${syncs.downstreams.partial} partial`,
    `bytes         ${mebibytes(bytes.snapshots)} of snapshots, ${mebibytes(bytes.stream)} of stream, ${mebibytes(bytes.relayed)} relayed`,
    `compared      ${comparisons.restored} restored, ${comparisons.earlier} of earlier moments, ${comparisons.downstream} downstream`,
    `kills         ${report.acknowledgedChecks} of the replica with its files checked, ${report.resumeChecks} of them with its resume checked`,
    `lost          ${report.lost}`,
  ];
  for (const problem of report.problems) lines.push(`problem       ${problem}`);
  if (report.evidence !== undefined) lines.push(`logs, files   ${report.evidence}`);
  return `${lines.join("\n")}\n`;
}
