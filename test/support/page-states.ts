import { limits } from "../../src/config/limits.ts";
import type {
  EventEntry,
  Headline,
  SampleColumns,
  ShardEntry,
  StatusDocument,
  TimelineEntry,
} from "../../src/monitor/browser/document.ts";
import { headlineOf, type Headlined } from "../../src/monitor/document/headline.ts";
import { serveHttp } from "../../src/monitor/http.ts";
import { Metrics } from "../../src/monitor/metrics.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const GIB = 1024 ** 3;

/** The moment that all of it is shown at. */
export const NOW_MS = Date.UTC(2026, 10, 30, 16, 40, 12);

const PRIMARY = "redis://orders-db.internal:6379";
const ARCHIVE = "s3://backups/orders";

/** What a headline is made of, where all is well. */
export const FOLLOWING: Headlined = {
  isFollowing: true,
  isOffline: false,
  link: {
    state: "connected",
    transfer: undefined,
    silentMs: 400,
    downSeconds: undefined,
    downForSeconds: 0,
    preparingSeconds: undefined,
  },
  supply: { role: "master", trouble: undefined, troubleSeconds: 0 },
  staleFor: undefined,
  staleSeconds: 0.8,
  servedOffset: 88_213_004_112,
  cursors: {
    received: 88_213_004_112,
    written: 88_213_004_112,
    durable: 88_213_001_230,
    logBytes: 3 * GIB,
  },
  durableAgeSeconds: 0.4,
  bytesPerSecond: { received: 1_480_000, written: 1_480_000, durable: 1_480_000 },
  currentGeneration: {
    id: 14,
    currentAtMs: NOW_MS - 5 * HOUR_MS,
    baseOffset: 84_991_779_000,
    rdbBytes: 8 * GIB,
    rdbCrc64: "0123456789abcdef",
  },
  primary: { name: PRIMARY, host: "orders-db.internal", port: 6379 },
};

/** A number from 0 to 1 that looks like chance, and is the same each time. */
function wave(at: number, seed: number): number {
  return (
    (Math.sin(at / 7 + seed) + Math.sin(at / 23 + 2 * seed) + Math.sin(at / 3.1) / 2 + 2.5) / 5
  );
}

interface Lived {
  /** From when to when no data came; milliseconds before now. */
  readonly down?: readonly (readonly [from: number, to: number])[];
  /** When a snapshot of so many bytes a second came. */
  readonly bulk?: readonly [from: number, to: number, rate: number];
  readonly isArchived?: boolean;
}

/** Six hours of samples, a minute each, and half an hour by 5 s. */
function samplesOf({ down = [], bulk, isArchived = true }: Lived): SampleColumns {
  const ages = [
    ...Array.from({ length: 330 }, (_, n) => (360 - n) * MINUTE_MS),
    ...Array.from({ length: 360 }, (_, n) => (360 - n) * limits.sampleMs),
  ];
  const rows = ages.map((age) => {
    const away = down.find(([from, to]) => age <= from && age > to);
    const isBulk = bulk !== undefined && age <= bulk[0] && age > bulk[1];
    const at = Math.round(age / MINUTE_MS);
    const rate = 1_800_000 * wave(at, 1);
    const received = away !== undefined ? 0 : isBulk ? bulk[2] * (0.8 + wave(age, 3) / 3) : rate;
    return {
      at_ms: NOW_MS - age,
      received: Math.round(received),
      written: Math.round(received * 0.995),
      durable: Math.round(received * (0.93 + 0.06 * wave(at, 5))),
      archived: isArchived
        ? Math.round(away === undefined ? rate * (0.7 + 0.3 * wave(at, 2)) : 0)
        : null,
      lag_ms: away === undefined ? Math.round(500 + 900 * wave(at, 4)) : away[0] - age + 800,
      archive_lag_ms: isArchived ? Math.round(1_500 + 3_000 * wave(at, 6)) : null,
      is_up: away === undefined && !isBulk ? 1 : 0,
    };
  });
  const column = <Name extends keyof (typeof rows)[number]>(name: Name) =>
    rows.map((row) => row[name]);
  return {
    at_ms: column("at_ms"),
    received: column("received"),
    written: column("written"),
    durable: column("durable"),
    archived: column("archived"),
    lag_ms: column("lag_ms"),
    archive_lag_ms: column("archive_lag_ms"),
    is_up: column("is_up"),
  };
}

function timelineOf(newestMs: number, isArchived = true): TimelineEntry {
  const begins = [29, 5].map((hours) => NOW_MS - hours * HOUR_MS);
  return {
    oldest_ms: begins[0] ?? null,
    newest_ms: newestMs,
    archived_ms: isArchived ? newestMs - 4_000 : null,
    generations: begins.map((from_ms, n) => ({
      id: 13 + n,
      state: n === 1 ? "current" : "sealed",
      sealed_reason: n === 1 ? null : "a newer snapshot took its place",
      from_ms,
      to_ms: begins[n + 1] ?? newestMs,
      from_offset: 81_000_000_000 + n * 3_991_779_000,
      to_offset: n === 1 ? 88_213_001_230 : 84_991_779_000,
      rdb_bytes: (7.6 + n * 0.4) * GIB,
      archived: isArchived ? (n === 1 ? "part" : "all") : "none",
    })),
    gaps: [{ from_ms: NOW_MS - 9 * HOUR_MS, to_ms: NOW_MS - 8.2 * HOUR_MS }],
  };
}

function eventsBefore(
  ...first: readonly (readonly [minutes: number, kind: string, text: string])[]
): EventEntry[] {
  const all = [
    ...first,
    [170, "partial-resync", "at offset 86520114203"],
    [172, "break", "the link to orders-db.internal:6379 broke: connection reset by peer"],
    [300, "generation", "14 took the place of 13: its snapshot is a day old"],
    [302, "retention", "generation 12 was removed: it is older than 1 d"],
    [492, "partial-resync", "at offset 83015332912"],
    [540, "break", "orders-db.internal:6379 could not be reached: connection refused"],
  ] as const;
  return all.map(([minutes, kind, text]) => ({ at_ms: NOW_MS - minutes * MINUTE_MS, kind, text }));
}

/** A document in which all is well. @param more what differs. */
export function documentOf(
  more: Partial<StatusDocument> = {},
  headlined: Partial<Headlined> = {},
): StatusDocument {
  const why = more.not_ready_reason ?? undefined;
  const headline: Headline = headlineOf({ ...FOLLOWING, ...headlined }, why);
  return {
    format: 1,
    version: "0.2.0",
    kind: "replica",
    now_ms: NOW_MS,
    uptime_seconds: 1_020_400,
    name: PRIMARY,
    directory: "/var/lib/replica/orders",
    archive: ARCHIVE,
    headline,
    ready: why === undefined,
    not_ready_reason: null,
    status: {
      state: "connected",
      durable_offset: 88_213_001_230,
      log_bytes: 3 * GIB,
      generation: 14,
    },
    samples: samplesOf({ down: [[172 * MINUTE_MS, 170 * MINUTE_MS]] }),
    events: eventsBefore(),
    timeline: timelineOf(NOW_MS - 800),
    downstreams: [
      {
        address: "10.4.0.12:6379",
        state: "online",
        acked_offset: 88_213_004_112,
        behind_bytes: 0,
        lag_seconds: 1,
      },
      {
        address: "10.4.0.13:6379",
        state: "online",
        acked_offset: 88_211_950_112,
        behind_bytes: 1_054_000,
        lag_seconds: 0,
      },
    ],
    downstream_count: 2,
    shards: [],
    ...more,
  };
}

function receiving(): StatusDocument {
  const transfer = { readBytes: 3.1 * GIB, totalBytes: 8 * GIB, expectedBytes: undefined };
  const link = { ...FOLLOWING.link, state: "transfer" as const, transfer };
  return documentOf(
    {
      not_ready_reason: "the link is in state transfer",
      samples: samplesOf({
        bulk: [0.5 * MINUTE_MS, -1, 125_000_000],
        down: [[3 * MINUTE_MS, 0.5 * MINUTE_MS]],
      }),
      events: eventsBefore(
        [
          0.5,
          "full-resync",
          "by redis://orders-db.internal:6379: the primary's backlog does not reach back to offset 88213004113",
        ],
        [3, "break", "the link to orders-db.internal:6379 broke: connection reset by peer"],
      ),
      timeline: timelineOf(NOW_MS - 3 * MINUTE_MS),
    },
    { link, bytesPerSecond: { received: 125_000_000, written: 125_000_000, durable: 118_000_000 } },
  );
}

function stale(): StatusDocument {
  const link = {
    ...FOLLOWING.link,
    state: "connect" as const,
    downSeconds: 28 * 60,
    downForSeconds: 28 * 60,
  };
  return documentOf(
    {
      not_ready_reason:
        "the link is in state connect: orders-db.internal:6379 could not be reached: connection refused",
      samples: samplesOf({ down: [[28 * MINUTE_MS, -1]] }),
      events: eventsBefore([
        28,
        "break",
        "orders-db.internal:6379 could not be reached: connection refused",
      ]),
      timeline: timelineOf(NOW_MS - 28 * MINUTE_MS),
      downstreams: [],
      downstream_count: 0,
    },
    { link, staleFor: "stale for 28 min", staleSeconds: 28 * 60 },
  );
}

function behind(): StatusDocument {
  return documentOf(
    { not_ready_reason: "bytes received 74 s ago are not durable yet" },
    {
      durableAgeSeconds: 74,
      cursors: { ...FOLLOWING.cursors, durable: FOLLOWING.cursors.received - 96_000_000 },
    },
  );
}

function offline(): StatusDocument {
  const link = { ...FOLLOWING.link, state: "none" as const };
  const samples = samplesOf({ down: [[7 * HOUR_MS, -1]], isArchived: false });
  const { timeline } = documentOf({ timeline: timelineOf(NOW_MS - 3 * HOUR_MS, false) });
  return documentOf(
    { archive: null, samples, timeline },
    { isFollowing: false, isOffline: true, link },
  );
}

function cluster(): StatusDocument {
  const why = "orders-2.internal:6379 could not be reached: connection refused";
  const shards = [1, 2, 3].map((n): ShardEntry => {
    const isBad = n === 2;
    return {
      shard: String(n).padStart(4, "0"),
      slots: ["0-5460", "5461-10922", "10923-16383"][n - 1] ?? "",
      primary: `redis://orders-${n}.internal:6379`,
      headline: isBad
        ? { tone: "bad", state: "stale for 4 min", text: "" }
        : { tone: "good", state: "following", text: "" },
      ready: !isBad,
      not_ready_reason: isBad ? why : null,
      durable_offset: 21_400_113_223 + n * 1_331_219,
      newest_ms: NOW_MS - (isBad ? 4 * MINUTE_MS : 700),
    };
  });
  return documentOf({
    kind: "cluster",
    name: "redis+cluster://orders-1.internal:6379",
    headline: {
      tone: "bad",
      state: "2 of 3 shards ready",
      text: "Following 3 shards of redis+cluster://orders-1.internal:6379; all of it can be restored as of 4 min ago.",
    },
    ready: false,
    not_ready_reason: `1 of 3 shards are not ready: shard 0002: ${why}`,
    timeline: { ...timelineOf(NOW_MS - 4 * MINUTE_MS), generations: [] },
    events: eventsBefore([4, "break", `shard 0002: ${why}`]),
    shards,
  });
}

/** The states that are shown. */
export const PAGE_STATES = {
  following: () => documentOf(),
  receiving,
  stale,
  behind,
  offline,
  cluster,
} as const;

export type PageState = keyof typeof PAGE_STATES;

/** Serves the page with made-up documents, through the program's own server. */
export class PageServer implements Disposable {
  document: StatusDocument;
  readonly port: number;
  #http: ReturnType<typeof serveHttp> | undefined;
  /** What was asked for. */
  readonly asked: string[] = [];

  constructor(document: StatusDocument) {
    this.document = document;
    this.#http = this.#serve(0);
    this.port = this.#http.port;
  }

  #serve(port: number) {
    return serveHttp({ host: "127.0.0.1", port, names: [] }, new Metrics(), {
      whyNotReady: () => this.document.not_ready_reason ?? undefined,
      page: () => {
        const { headline, not_ready_reason, status } = this.document;
        const rows = Object.entries(status).map(([name, value]) => [name, String(value)] as const);
        return { headline, notReady: not_ready_reason ?? undefined, rows, tables: [] };
      },
      document: ({ shard, sinceMs }) => {
        this.asked.push(`${shard ?? "all"} since ${sinceMs}`);
        return this.document;
      },
      record: () => () => undefined,
    });
  }

  url(path = "/"): string {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  /** Nothing answers from here on. */
  stop(): void {
    this.#http?.stop();
    this.#http = undefined;
  }

  /** It answers again, at the same port. */
  resume(): void {
    this.#http ??= this.#serve(this.port);
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}
