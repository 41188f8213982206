import { formatAge, formatBytes } from "../../base/quantity.ts";
import type { Clock } from "../../base/clock.ts";
import type { ReplicaStatus } from "../../replica/status.ts";
import type { HttpView } from "../http.ts";
import type { Page } from "../page.ts";
import type { StateSurroundings } from "../process-info.ts";
import { Recorders } from "./recorder.ts";
import { replicaDocument, shownHeadline } from "./replica-document.ts";

/** The newest moment that can be restored, and how long ago that is. */
function restorableText(status: ReplicaStatus): string {
  const { newestRestorableMs, staleSeconds, staleFor } = status;
  if (newestRestorableMs === undefined || staleSeconds === undefined) return "nothing yet";
  const moment = new Date(newestRestorableMs).toISOString();
  return staleFor === undefined
    ? `${moment}, ${formatAge(staleSeconds)} ago`
    : `${moment}: ${staleFor}`;
}

/** What is archived, where something is. */
function archiveRows({ archive }: ReplicaStatus): [string, string][] {
  if (archive === undefined) return [];
  const { url, text, archivedOffset, lag, lastSuccessMs } = archive;
  const last =
    lastSuccessMs === undefined ? "" : `, sent last ${new Date(lastSuccessMs).toISOString()}`;
  const behind =
    lag === undefined ? "" : `, ${formatBytes(lag.lagBytes + lag.lagBaseBytes)} behind`;
  const reached = archivedOffset === undefined ? "no snapshot yet" : `offset ${archivedOffset}`;
  return [
    ["archive", `${url}: ${text}`],
    ["archived", `${reached}${behind}${last}`],
  ];
}

/** How large it is, and that it is small beside what was there before. */
function snapshotText({ currentGeneration, shrunken }: ReplicaStatus): string {
  const size = formatBytes(currentGeneration?.rdbBytes ?? 0);
  if (shrunken === undefined) return size;
  return `${size}: less than half of generation ${shrunken.guarded} (${shrunken.had}), which is kept`;
}

/** What a view takes from around it. */
export interface ViewSurroundings extends StateSurroundings {
  readonly version: string;
  readonly clock: Clock;
}

/** What is served over HTTP for one replica. */
export function replicaView(status: ReplicaStatus, around: ViewSurroundings): HttpView {
  const recorders = new Recorders(() => [status], around.clock);
  const about = { ...around, now: () => around.clock.now() };
  return {
    whyNotReady: () => status.whyNotReady(around.readyLagMs),
    page: () => replicaPage(status, around.readyLagMs),
    document: ({ sinceMs, shard }) =>
      shard === undefined
        ? replicaDocument(status, recorders.of(status).since(sinceMs), about)
        : undefined,
    record: () => recorders.begin(),
  };
}

function replicaPage(status: ReplicaStatus, readyLagMs: number): Page {
  const { link, syncs, relay, cursors } = status;
  const generation = status.currentGeneration;
  const notReady = status.whyNotReady(readyLagMs);
  const rows: [string, string][] = [
    ["primary", status.isFollowing ? status.primary.name : "none"],
    ["state", link.state],
    ["ready", notReady === undefined ? "yes" : `no: ${notReady}`],
    ["offset received", String(cursors.received)],
    ["offset durable", String(cursors.durable)],
    ["generation", String(generation?.id ?? "none")],
    ["snapshot", snapshotText(status)],
    ["log", formatBytes(cursors.logBytes)],
    ["restorable up to", restorableText(status)],
    ...archiveRows(status),
    ["downstreams", `${relay.downstreams.length} attached, ${relay.countByState.online} online`],
    ["syncs", `${syncs.full} full, ${syncs.partial} partial`],
    ["other history", status.otherHistory?.text ?? "none"],
    ["last error", status.lastBreak?.message ?? "none"],
  ];
  return { headline: shownHeadline(status, notReady), notReady, rows, tables: [] };
}
