/** How often a replica synced, of which kind. */
export interface Syncs {
  full: number;
  partial: number;
}

/** What a soak came to; all of it counts over the whole run. */
export interface Report {
  readonly seed: number;
  /** As it says itself: `redis-7.0 (7.0.15)`. */
  readonly server: string;
  readonly replica: "source" | "compiled";
  readonly minutes: number;
  readonly seconds: number;
  /** How often each kind of fault happened. */
  readonly faults: Readonly<Record<string, number>>;
  readonly syncs: { readonly replica: Syncs; readonly downstreams: Syncs };
  readonly generations: number;
  /** What came over the wire, and went out to the downstreams. */
  readonly bytes: { readonly snapshots: number; readonly stream: number; readonly relayed: number };
  readonly load: {
    readonly commands: number;
    readonly expiredKeys: number;
    readonly evictedKeys: number;
  };
  /** What was compared with the primary as it was at that offset. */
  readonly comparisons: Readonly<Record<ComparisonKind, number>>;
  /** What was looked up after each kill of the replica: whether what it had acknowledged is in its files. */
  readonly acknowledgedChecks: number;
  /** How many of these went on, by partial resync, from what was acknowledged. */
  readonly resumeChecks: number;
  /** Comparisons that differ, and acknowledgements whose bytes are gone. */
  readonly lost: number;
  /** One line for each thing that is wrong, those that are lost among them. */
  readonly problems: readonly string[];
  /** Where all logs and files lie, when something is wrong. */
  readonly evidence: string | undefined;
}

/** A copy restored and booted; one of an earlier moment; a server that is fed from here. */
export type ComparisonKind = "restored" | "earlier" | "downstream";

/** For people. */
export function reportText(report: Report): string {
  const { syncs, bytes, load, comparisons } = report;
  const faults = Object.entries(report.faults).map(([kind, count]) => `${count} ${kind}`);
  const mebibytes = (count: number) => `${(count / 2 ** 20).toFixed(1)} MiB`;
  const lines = [
    `seed          ${report.seed}`,
    `server        ${report.server}, replica from its ${report.replica === "source" ? "source" : "compiled program"}`,
    `time          ${report.seconds.toFixed(0)} s (${report.minutes} min asked for)`,
    `load          ${load.commands} commands; ${load.expiredKeys} keys expired, ${load.evictedKeys} evicted`,
    `faults        ${faults.join(", ")}`,
    `syncs         ${syncs.replica.full} full, ${syncs.replica.partial} partial; ${report.generations} generations`,
    `  downstream  ${syncs.downstreams.full} full, ${syncs.downstreams.partial} partial`,
    `bytes         ${mebibytes(bytes.snapshots)} of snapshots, ${mebibytes(bytes.stream)} of stream, ${mebibytes(bytes.relayed)} relayed`,
    `compared      ${comparisons.restored} restored, ${comparisons.earlier} of earlier moments, ${comparisons.downstream} downstream`,
    `kills         after ${report.acknowledgedChecks} of the replica its files were looked at for what it had acknowledged; after ${report.resumeChecks} it went on from there`,
    `lost          ${report.lost}`,
  ];
  for (const problem of report.problems) lines.push(`wrong         ${problem}`);
  if (report.evidence !== undefined) lines.push(`logs, files   ${report.evidence}`);
  return `${lines.join("\n")}\n`;
}
