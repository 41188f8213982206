import { describeAddress } from "../../base/address.ts";
import { logger } from "../../base/logger.ts";
import { counted, formatBytes } from "../../base/quantity.ts";
import { nodeAddresses } from "../../cluster/restore/addresses.ts";
import { ClusterDirectory } from "../../cluster/restore/cluster-directory.ts";
import { type ClusterPlan, planRestore } from "../../cluster/restore/plan.ts";
import { type RestoredNode, restoreCluster } from "../../cluster/restore/restore-cluster.ts";
import { commonWindow, shardName, windowOf } from "../../cluster/restore/shard-window.ts";
import {
  countSlots,
  formatRanges,
  type SlotRange,
  SLOTS,
} from "../../cluster/slots/slot-ranges.ts";
import { nameOf, type ServerProgram } from "../../stock/server-program.ts";
import {
  checkRestoredCluster,
  type NodeCheck,
  refuseServing,
  serveRestoredCluster,
} from "../../stock/stock-cluster.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { PieceCheckers } from "../../store/pieces/piece-checkers.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import { describeLeftOut, type RestoreOptions } from "../../store/restore/restore.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import type { Output } from "../terminal/output.ts";
import { table } from "../terminal/table.ts";

/** What to restore, and how. */
export interface WholeRestore extends Pick<RestoreOptions, "layout" | "mode" | "target"> {
  /** Gives `use` a cluster's directory, and the moment to restore; undefined: the last that all shards have durable. */
  readonly withSource: <T>(
    use: (dir: string, atMs: number | undefined) => Promise<T>,
  ) => Promise<T>;
  /** The folder to write. */
  readonly into: string;
  readonly addresses: string | undefined;
  readonly isJson: boolean;
  /** What to do with the result. */
  readonly afterwards:
    | {
        readonly server: ServerProgram;
        readonly check: { readonly digest: boolean } | undefined;
        readonly servePort: number | undefined;
      }
    | undefined;
}

/** Where it runs. */
export interface Surroundings {
  readonly nowMs: number;
  readonly signal: AbortSignal;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly onProgress: (file: string, bytes: number, totalBytes: number) => void;
}

/** The exit code where keys lie in slots that their node doesn't own. */
const UNUSABLE = 3;

/**
 * Restores a whole cluster, reports it, and boots servers on it where that is asked for.
 * @returns the exit code.
 * @throws ReplicaError as `planRestore`, `restoreCluster`, `checkRestoredCluster` and `serveRestoredCluster`.
 */
export async function restoreWhole(
  wanted: WholeRestore,
  { nowMs, signal, stdout, stderr, onProgress }: Surroundings,
): Promise<number> {
  const { into, layout, mode, target, afterwards } = wanted;
  const { plan, nodes } = await wanted.withSource(async (dir, atMs) => {
    using source = new ClusterDirectory(dir);
    for (const [number, { losses }] of source.shards) {
      for (const loss of losses) logger.warn(`shard ${shardName(number)}: ${describeDamage(loss)}`);
    }
    using checkers = new PieceCheckers({ signal });
    const planned = await planRestore(source, atMs, { nowMs, disk: realDisk, signal });
    const addresses = nodeAddresses(wanted.addresses, planned.shards.length);
    if (afterwards?.servePort !== undefined) {
      refuseServing(planned.shards.length, afterwards.server, afterwards.servePort);
    }
    const how = { layout, mode, target, addresses };
    const options = { disk: realDisk, signal, ...how, onProgress, checkers };
    return { plan: planned, nodes: await restoreCluster(planned, source.path, into, options) };
  });
  for (const { number, restored } of nodes) {
    for (const warning of restored.warnings) logger.warn(`shard ${shardName(number)}: ${warning}`);
  }
  const done: Done = { target: into, plan, nodes };
  const shards = nodes.map(({ restored, slots, migrating = [], importing = [] }) => ({
    files: restored,
    slots,
    migrating,
    importing,
  }));
  const load = (loaded: number, total: number) => onProgress("load", loaded, total);
  let checked: Checked | undefined;
  if (afterwards?.check !== undefined) {
    const { server, check } = afterwards;
    const found = await checkRestoredCluster(shards, server, {
      ...check,
      signal,
      onProgress: load,
    });
    checked = { server, found };
  }
  stdout.write(
    wanted.isJson ? `${JSON.stringify(toJson(done, checked))}\n` : describe(done, checked),
  );
  if (checked?.found.some(({ strayKeys }) => strayKeys > 0) === true) return UNUSABLE;
  if (afterwards?.servePort === undefined) return 0;
  const { server, servePort: port } = afterwards;
  const { ports, ended } = await serveRestoredCluster(shards, server, {
    port,
    signal,
    onProgress: load,
  });
  stderr.write(
    `${nameOf(server)} serves it as a cluster at ${ports.map((one) => `127.0.0.1:${one}`).join(", ")} as of ${shownTime(plan.atMs)}, read-only; press Ctrl-C to stop\n`,
  );
  await ended;
  return 0;
}

/** Says which moments a cluster's directory keeps, for whom a time is refused; empty where it can't be read. */
export function keptMoments(dir: string, nowMs: number): string {
  try {
    using source = new ClusterDirectory(dir);
    const windows = [...source.shards.values()].flatMap(
      (catalogue) => windowOf(catalogue, nowMs) ?? [],
    );
    return windows.length === 0 ? "" : commonWindow(windows);
  } catch {
    // Whatever is wrong with the source is told once the time is right.
    return "";
  }
}

interface Done {
  readonly target: string;
  readonly plan: ClusterPlan;
  readonly nodes: readonly RestoredNode[];
}

interface Checked {
  readonly server: ServerProgram;
  /** In the order of the nodes. */
  readonly found: readonly NodeCheck[];
}

function describe({ target, plan, nodes }: Done, checked: Checked | undefined): string {
  const covered = SLOTS - countSlots(plan.uncovered);
  const rows = nodes.map(({ number, slots, address, restored }, index) => {
    const { offset, atMs, commands, rdbBytes, logBytes } = restored;
    const check = checked?.found[index];
    return [
      shardName(number),
      countSlots(slots),
      shownSlots(slots),
      offset,
      atMs === undefined ? "unknown" : shownTime(atMs),
      formatBytes(rdbBytes),
      `${counted(commands, "command")} (${formatBytes(logBytes)})`,
      describeAddress(address),
      ...(check === undefined ? [] : [check.keys, check.expires, check.strayKeys]),
      ...(check?.digest === undefined ? [] : [check.digest]),
    ];
  });
  const titles = ["shard", "slots", "which", "offset", "as of", "snapshot", "log", "node"];
  if (checked !== undefined) titles.push("keys", "with expiry", "astray");
  if (checked?.found.some(({ digest }) => digest !== undefined) === true) titles.push("digest");
  const checks =
    checked === undefined ? "" : `${nameOf(checked.server)} starts from it, as one cluster\n`;
  return `${target}: ${counted(nodes.length, "shard")} with ${counted(covered, "slot")}, as of ${shownTime(plan.atMs)}
${table(titles, rows)}${checks}${told({ target, plan, nodes })
    .map((line) => `note: ${line}\n`)
    .join(
      "",
    )}  start each node in its folder: cd ${target}/${shardName(nodes[0]?.number ?? 1)} && redis-server --cluster-enabled yes --appendonly yes ${databasesOption(nodes, checked)}--port ${nodes[0]?.address.port ?? ""}
`;
}

/**
 * As many databases as the data needs: a node that has less would load the data of the others into the wrong one. Without
 * a check only as much is known as begins or logs say.
 */
function databasesOption(nodes: readonly RestoredNode[], checked: Checked | undefined): string {
  const highest = Math.max(
    ...nodes.map(({ restored }) => restored.highestDb),
    ...(checked?.found ?? []).flatMap(({ databases }) => databases.map(({ database }) => database)),
  );
  return highest > 0 ? `--cluster-databases ${highest + 1} ` : "";
}

function told({ plan, nodes }: Done): string[] {
  const back = nodes
    .filter(({ broughtBack }) => broughtBack > 0)
    .map(
      ({ number, broughtBack }) =>
        `shard ${shardName(number)} has ${counted(broughtBack, "key")} back that a migration was moving away`,
    );
  // Every shard removes what isn't its own in the end: no sweep that stands for a command.
  const without = nodes
    .filter(({ restored }) => restored.leftOutCommands > 0 || restored.sweeps > 0)
    .map(({ number, restored }) => `shard ${shardName(number)} is ${describeLeftOut(restored)}`);
  return [...plan.notes, ...back, ...without];
}

/** Ranges may be thousands. */
const SHOWN_RANGES = 3;

function shownSlots(slots: readonly SlotRange[]): string {
  const more = slots.length > SHOWN_RANGES ? " …" : "";
  return `${formatRanges(slots.slice(0, SHOWN_RANGES))}${more}`;
}

function toJson(done: Done, checked: Checked | undefined) {
  const { target, plan, nodes } = done;
  return {
    dir: target,
    time: shownTime(plan.atMs),
    slots: SLOTS - countSlots(plan.uncovered),
    uncovered: formatRanges(plan.uncovered),
    open_slots: plan.open.map(({ slot, source, target }) => ({ slot, source, target })),
    notes: told(done),
    ...(checked && { check: { server: nameOf(checked.server) } }),
    shards: nodes.map(({ number, slots, address, restored, broughtBack }, index) => {
      const check = checked?.found[index];
      return {
        shard: number,
        dir: restored.dir,
        node: describeAddress(address),
        slots: formatRanges(slots),
        generation: restored.generation.id,
        offset: restored.offset,
        time: restored.atMs === undefined ? null : shownTime(restored.atMs),
        commands: restored.commands,
        rewritten_commands: restored.rewrittenCommands,
        left_out_commands: restored.leftOutCommands,
        sweeps: restored.sweeps,
        appended_commands: restored.appendedCommands,
        brought_back_keys: broughtBack,
        rdb_bytes: restored.rdbBytes,
        log_bytes: restored.logBytes,
        warnings: restored.warnings,
        ...(check && {
          keys: check.keys,
          databases: Object.fromEntries(
            check.databases.map(({ database, keys }) => [`db${database}`, keys]),
          ),
          keys_with_expiry: check.expires,
          stray_keys: check.strayKeys,
          ...(check.digest !== undefined && { digest: check.digest }),
        }),
      };
    }),
  };
}
