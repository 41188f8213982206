import type { ErrorCode } from "../base/errors.ts";
import type { ReplicaStatus } from "../replica/status.ts";
import { flag, labeled, type Metric } from "./metric.ts";

type ArchiveStatus = NonNullable<ReplicaStatus["archive"]>;

/** The codes that an archiver usually fails by. Their counters start at 0: rate() misses the first event of a series. */
const NO_FAILURES = {
  ARCHIVE_FAILED: 0,
  ARCHIVE_FORBIDDEN: 0,
  ARCHIVE_CONFLICT: 0,
  ARCHIVE_DAMAGED: 0,
  ARCHIVE_TOO_NEW: 0,
  DIRECTORY_DAMAGED: 0,
  DISK_FAILED: 0,
  DISK_FULL: 0,
} satisfies Partial<Record<ErrorCode, number>>;

/** A metric that is there where something is archived. */
interface ArchiveMetric extends Omit<Metric, "read"> {
  read(archive: ArchiveStatus): ReturnType<Metric["read"]>;
}

function sentByKind(
  { sent }: ArchiveStatus,
  what: "objects" | "bytes",
): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(sent).map(([kind, count]) => [kind, count[what]]));
}

const TABLE: readonly ArchiveMetric[] = [
  {
    name: "archive_up",
    type: "gauge",
    help: "1 while the archive takes what it is sent, 0 while each try fails or the current generation is archived no further.",
    read: ({ isUp }) => flag(isUp),
  },
  {
    name: "archive_offset_bytes",
    type: "gauge",
    help: "Replication offset up to which the generation that is being archived can be restored from the archive; absent before its snapshot is whole there.",
    read: ({ archivedOffset }) => archivedOffset,
  },
  {
    name: "archive_lag_bytes",
    type: "gauge",
    help: "Durable bytes that the archive lacks, of logs and of snapshots.",
    labels: ["part"],
    read: ({ lag }) => lag && labeled("part", { log: lag.lagBytes, snapshot: lag.lagBaseBytes }),
  },
  {
    name: "archive_lag_seconds",
    type: "gauge",
    help: "How long ago the oldest of them became durable; 0 where the archive lacks none.",
    read: ({ lag }) => lag && lag.lagMs / 1000,
  },
  {
    name: "archive_last_success_timestamp_seconds",
    type: "gauge",
    help: "When the archive took an object last, in unix time; absent before the first since the start.",
    read: ({ lastSuccessMs }) => lastSuccessMs && lastSuccessMs / 1000,
  },
  {
    name: "archive_objects_total",
    type: "counter",
    help: "Objects that the archive has got, by kind.",
    labels: ["kind"],
    read: (archive) => labeled("kind", sentByKind(archive, "objects")),
  },
  {
    name: "archive_sent_bytes_total",
    type: "counter",
    help: "Size of the objects that the archive has got, by kind; compressed and encrypted as they are.",
    labels: ["kind"],
    read: (archive) => labeled("kind", sentByKind(archive, "bytes")),
  },
  {
    name: "archive_failures_total",
    type: "counter",
    help: "Failed tries to archive something, by the error's code.",
    labels: ["code"],
    read: ({ failures }) =>
      labeled("code", { ...NO_FAILURES, ...Object.fromEntries<number>(failures) }),
  },
  {
    name: "archive_generations_given_up",
    type: "gauge",
    help: "Generations that have been archived no further since the start, because the archive holds other bytes under their names or their snapshot is damaged.",
    read: ({ stopped }) => stopped.size,
  },
];

/** What is archived. All are absent without an archive. */
export const ARCHIVE_METRICS: readonly Metric[] = TABLE.map((metric) => ({
  ...metric,
  read: ({ archive }) => archive && metric.read(archive),
}));
