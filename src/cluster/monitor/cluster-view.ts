import { printable } from "../../base/printable.ts";
import { limits } from "../../config/limits.ts";
import type {
  EventEntry,
  Headline,
  ShardEntry,
  StatusDocument,
  TimelineEntry,
} from "../../monitor/browser/document.ts";
import { Recorders, together } from "../../monitor/document/recorder.ts";
import {
  columnsOf,
  type DocumentSurroundings,
  replicaDocument,
} from "../../monitor/document/replica-document.ts";
import type { ViewSurroundings } from "../../monitor/document/replica-view.ts";
import type { HttpView } from "../../monitor/http.ts";
import { fieldsToJson } from "../../monitor/info-field.ts";
import { formatRanges } from "../slots/slot-ranges.ts";
import {
  type ClusterStatus,
  type ShardStatus,
  whyShardNotReady,
} from "../status/cluster-status.ts";
import { clusterHeadline, shardHeadline } from "./cluster-headline.ts";
import { clusterStateSections, replicasOf } from "./cluster-info.ts";
import { clusterPage } from "./cluster-page.ts";

/** So many gaps are listed, the newest ones. */
const MAX_GAPS = 200;

/** What is served over HTTP for a cluster: all of it, and each shard by its label. */
export function clusterView(status: ClusterStatus, around: ViewSurroundings): HttpView {
  const recorders = new Recorders(() => replicasOf(status), around.clock);
  const about = { ...around, now: () => around.clock.now() };
  return {
    whyNotReady: () => status.whyNotReady(around.readyLagMs),
    page: () => clusterPage(status, around.readyLagMs),
    document: ({ sinceMs, shard }) => {
      if (shard === undefined) return clusterDocument(status, recorders, sinceMs, about);
      const replica = status.shown.find(({ label }) => label === shard)?.replica;
      if (replica === undefined) return undefined;
      const samples = recorders.of(replica).since(sinceMs);
      return { ...replicaDocument(replica, samples, about), kind: "shard" };
    },
    record: () => recorders.begin(),
  };
}

function clusterDocument(
  status: ClusterStatus,
  recorders: Recorders,
  sinceMs: number,
  about: DocumentSurroundings,
): StatusDocument {
  const { readyLagMs } = about;
  const notReady = status.whyNotReady(readyLagMs);
  const running = status.live.flatMap((shard) => {
    const { replica, label } = shard;
    if (replica === undefined) return [];
    const samples = recorders.of(replica).since(sinceMs);
    return [{ label, samples, document: replicaDocument(replica, [], about) }];
  });
  const documents = running.map(({ document }) => document);
  const downstreams = documents.flatMap((one) => one.downstreams);
  return {
    format: 1,
    version: about.version,
    kind: "cluster",
    now_ms: about.now(),
    uptime_seconds: status.uptimeSeconds,
    name: printable(status.name),
    directory: printable(status.directoryPath),
    archive: archiveOf(documents),
    headline: shown(clusterHeadline(status, readyLagMs)),
    ready: notReady === undefined,
    not_ready_reason: notReady === undefined ? null : printable(notReady),
    status: fieldsToJson(
      Object.values(clusterStateSections(status, about)).flatMap((read) => read()),
    ),
    samples: columnsOf(together(running.map(({ samples }) => samples))),
    events: eventsOf(running),
    timeline: timelineOf(status, documents),
    downstreams: downstreams.slice(0, limits.shownDownstreams),
    downstream_count: documents.reduce((sum, one) => sum + one.downstream_count, 0),
    shards: status.shown.map((shard) => entryOf(shard, readyLagMs)),
  };
}

function shown({ tone, state, text }: Headline): Headline {
  return { tone, state: printable(state), text: printable(text) };
}

/** Each shard's part of the archive lies in a folder of its own there: what all of them begin with is the archive. */
function archiveOf(documents: readonly StatusDocument[]): string | null {
  const [first, ...rest] = documents.map(({ archive }) => archive ?? "");
  if (first === undefined || first === "") return null;
  return rest.length === 0 && !/\/shards\/[^/]*$/.test(first)
    ? first
    : first.replace(/\/shards\/[^/]*$/, "");
}

function eventsOf(
  running: readonly { readonly label: string; readonly document: StatusDocument }[],
): EventEntry[] {
  return running
    .flatMap(({ label, document }) =>
      document.events.map(({ at_ms, kind, text }) => ({
        at_ms,
        kind,
        text: `shard ${label}: ${text}`,
      })),
    )
    .toSorted((a, b) => b.at_ms - a.at_ms)
    .slice(0, limits.shownEvents);
}

/** What can be restored of all shards. */
function timelineOf(
  { newestRestorableMs }: ClusterStatus,
  documents: readonly StatusDocument[],
): TimelineEntry {
  const timelines = documents.map(({ timeline }) => timeline);
  const oldest = timelines.map(({ oldest_ms }) => oldest_ms);
  const archived = timelines.map(({ archived_ms }) => archived_ms);
  const all = (moments: readonly (number | null)[]) => {
    const known = moments.filter((one) => one !== null);
    return known.length < moments.length || known.length === 0 ? undefined : known;
  };
  const [oldestKnown, archivedKnown] = [all(oldest), all(archived)];
  const [oldestMs, newestMs] = [oldestKnown && Math.max(...oldestKnown), newestRestorableMs];
  // What one shard keeps may begin after another one's end: then there is no moment that all have.
  const hasCommon = oldestMs !== undefined && newestMs !== undefined && oldestMs <= newestMs;
  return {
    oldest_ms: hasCommon ? oldestMs : null,
    newest_ms: hasCommon ? newestMs : null,
    archived_ms: archivedKnown === undefined ? null : Math.min(...archivedKnown),
    generations: [],
    gaps: timelines
      .flatMap(({ gaps }) => gaps)
      .toSorted((a, b) => a.from_ms - b.from_ms)
      .slice(-MAX_GAPS),
  };
}

function entryOf(shard: ShardStatus, readyLagMs: number): ShardEntry {
  const { label, slots, replica } = shard;
  const why = whyShardNotReady(shard, readyLagMs);
  return {
    shard: label,
    slots: formatRanges(slots),
    primary: replica === undefined ? null : printable(replica.primary.name),
    headline: shown(shardHeadline(shard, readyLagMs)),
    ready: why === undefined,
    not_ready_reason: why === undefined ? null : printable(why),
    durable_offset: replica?.cursors.durable ?? null,
    newest_ms: replica?.newestRestorableMs ?? null,
  };
}
