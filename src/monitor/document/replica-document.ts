import { printable } from "../../base/printable.ts";
import { limits } from "../../config/limits.ts";
import type { Sample } from "../../replica/past.ts";
import type { ReplicaStatus } from "../../replica/status.ts";
import type {
  DownstreamEntry,
  EventEntry,
  SampleColumns,
  StatusDocument,
  TimelineEntry,
} from "../browser/document.ts";
import { fieldsToJson } from "../info-field.ts";
import { stateSections } from "../info.ts";
import type { StateSurroundings } from "../process-info.ts";
import { headlineOf } from "./headline.ts";

/** What a document needs beside the status. */
export interface DocumentSurroundings extends StateSurroundings {
  readonly version: string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** What was recorded, as columns. */
export function columnsOf(samples: readonly Sample[]): SampleColumns {
  return {
    at_ms: samples.map(({ atMs }) => atMs),
    received: samples.map(({ received }) => received),
    written: samples.map(({ written }) => written),
    durable: samples.map(({ durable }) => durable),
    archived: samples.map(({ archived }) => archived),
    lag_ms: samples.map(({ lagMs }) => lagMs),
    archive_lag_ms: samples.map(({ archiveLagMs }) => archiveLagMs),
    is_up: samples.map(({ isUp }) => isUp),
  };
}

/** Everything that `/status.json` tells of one replica; what the database doesn't tell now is left empty. */
export function replicaDocument(
  status: ReplicaStatus,
  samples: readonly Sample[],
  about: DocumentSurroundings,
): StatusDocument {
  const notReady = status.whyNotReady(about.readyLagMs);
  const sections = Object.values(stateSections(status, about));
  return {
    format: 1,
    version: about.version,
    kind: "replica",
    now_ms: about.now(),
    uptime_seconds: status.uptimeSeconds,
    name: printable(status.primary.name),
    directory: printable(status.directoryPath),
    archive: status.archive === undefined ? null : printable(status.archive.url),
    headline: shownHeadline(status, notReady),
    ready: notReady === undefined,
    not_ready_reason: notReady === undefined ? null : printable(notReady),
    status: fieldsToJson(sections.flatMap((read) => read())),
    samples: columnsOf(samples),
    events: eventsOf(status),
    timeline: timelineOf(status, about.now()),
    downstreams: downstreamsOf(status),
    downstream_count: status.relay.downstreams.length,
    shards: [],
  };
}

/** See `headlineOf`; a name in it may come from a peer. */
export function shownHeadline(status: ReplicaStatus, notReady: string | undefined) {
  const { tone, state, text } = headlineOf(status, notReady);
  return { tone, state: printable(state), text: printable(text) };
}

function eventsOf({ past }: ReplicaStatus): EventEntry[] {
  const events = orNone(() => past.events(limits.shownEvents)) ?? [];
  return events.map(({ atMs, kind, detail }) => ({ at_ms: atMs, kind, text: detail }));
}

function timelineOf(status: ReplicaStatus, nowMs: number): TimelineEntry {
  const timeline = orNone(() => status.past.timeline(limits.shownGenerations));
  const newest = status.newestRestorableMs ?? null;
  return {
    oldest_ms: orNone(() => status.oldestRestorableMs) ?? null,
    newest_ms: newest,
    archived_ms: archivedMs(status, newest, nowMs),
    generations: (timeline?.generations ?? []).map((one) => ({
      id: one.id,
      state: one.state,
      sealed_reason: one.sealedReason,
      from_ms: one.fromMs,
      to_ms: one.toMs,
      from_offset: one.baseOffset,
      to_offset: one.durableOffset,
      rdb_bytes: one.rdbBytes,
      archived: one.archived,
    })),
    gaps: (timeline?.gaps ?? []).map(({ fromMs, toMs }) => ({ from_ms: fromMs, to_ms: toMs })),
  };
}

/** Up to when the archive has what is kept: its oldest lacked byte has been durable since then. */
function archivedMs({ archive }: ReplicaStatus, newest: number | null, nowMs: number) {
  if (archive?.lag === undefined || archive.archivedOffset === undefined || newest === null) {
    return null;
  }
  const { lagMs, lagBytes } = archive.lag;
  return lagBytes === 0 ? newest : Math.min(newest, Math.round(nowMs - lagMs));
}

function downstreamsOf({ relay, history }: ReplicaStatus): DownstreamEntry[] {
  return relay.downstreams
    .slice(0, limits.shownDownstreams)
    .map(({ ip, port, state, ackedOffset, lagSeconds }) => ({
      address: printable(`${ip}:${port}`),
      state,
      acked_offset: ackedOffset,
      // One that has just attached has acknowledged nothing.
      behind_bytes: ackedOffset === 0 ? 0 : Math.max(0, history.endOffset - ackedOffset),
      lag_seconds: lagSeconds,
    }));
}

/** What is asked of the database, while it can answer. */
function orNone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
