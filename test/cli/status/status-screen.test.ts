import { describe, expect, test } from "bun:test";
import { parseInfo } from "../../../src/resp/info-text.ts";
import { infoToJson, isReady } from "../../../src/cli/status/info-json.ts";
import { type Scene, screenLines } from "../../../src/cli/status/status-screen.ts";

const mebibyte = 1024 * 1024;
const plain = { columns: undefined, hasColors: false };

/** INFO of a replica that follows and is durable, with some fields changed. */
function infoWith(fields: Record<string, string | number> = {}) {
  const usual = {
    server_time_usec: 1_700_000_120_500_000,
    uptime_in_seconds: 90_000,
    rdb_last_save_time: 1_700_000_000,
    master_link_status: "up",
    master_last_io_seconds_ago: 2,
    master_sync_in_progress: 0,
    oldest_restorable_time: 1_699_900_000,
    newest_restorable_time: 1_700_000_118,
    stale_seconds: 2,
    state: "connected",
    ready: 1,
    not_ready_reason: "",
    primary: "redis://10.0.0.5:6379",
    received_offset: 1_234_567,
    written_offset: 1_234_567,
    durable_offset: 1_234_567,
    durable_lag_bytes: 0,
    durable_age_seconds: "0.0",
    received_bytes_per_second: 2 * mebibyte,
    durable_bytes_per_second: mebibyte,
    received_snapshot_bytes: 8 * mebibyte,
    received_stream_bytes: mebibyte,
    generation: 2,
    sealed_generations: 1,
    log_bytes: mebibyte,
    rdb_bytes: 8 * mebibyte,
    disk_free_bytes: 1024 * mebibyte,
    disk_low: 0,
    shrunken: 0,
    shrunken_seconds: 0,
    shrunken_from: "",
    rdb_bgsave_in_progress: 0,
    last_snapshot_error: "",
    full_syncs: 2,
    full_syncs_nothing_kept: 1,
    full_syncs_backlog_too_small: 1,
    partial_syncs: 3,
    breaks: 1,
    last_error: "",
    last_error_cause: "",
    last_error_time: 0,
  };
  const lines = Object.entries({ ...usual, ...fields }).map(([name, value]) => `${name}:${value}`);
  return parseInfo(lines.join("\r\n"));
}

function screenWith(fields: Record<string, string | number> = {}): string {
  return screenLines({ at: "h:1", info: infoWith(fields) }, plain).join("\n");
}

test("shows a replica that follows", () => {
  expect(screenWith()).toBe(
    `
h:1 is ready

state         connected, last heard 2 s ago
primary       redis://10.0.0.5:6379
received      offset 1,234,567   2.0 MiB/s
written       offset 1,234,567
durable       offset 1,234,567   1.0 MiB/s
lag           none: everything received is durable
restorable    from 2023-11-13 18:26:40 UTC (1 d 3 h ago) to 2023-11-14 22:15:18 UTC (2 s ago)
generation    2, snapshot of 8.0 MiB, since 2023-11-14 22:13:20 UTC (2 min ago)
log           1.0 MiB
sealed        1 sealed generation
disk          1.0 GiB free
syncs         2 full (nothing kept: 1, backlog too small: 1), 3 partial
breaks        1
last error    none
uptime        1 d 1 h; received 8.0 MiB of snapshots, 1.0 MiB of stream
`.trim(),
  );
});

const down = {
  ready: 0,
  master_link_status: "down",
  not_ready_reason: "the link is in state connect",
  state: "connect",
};

describe("shows", () => {
  test.each<[string, Record<string, string | number>, string[]]>([
    [
      "whom it feeds",
      {
        connected_slaves: 3,
        master_repl_offset: 5_000,
        slave0: "ip=127.0.0.1,port=7001,state=online,offset=4000,lag=0",
        slave1: "ip=127.0.0.1,port=7002,state=online,offset=0,lag=0",
        slave2: "ip=127.0.0.1,port=7003,state=send_bulk,offset=0,lag=0",
      },
      ["feeds         3 replicas, 2 online, at most 1000 B behind"],
    ],
    [
      "that it serves what is kept",
      { ...down, ready: 1, primary: "", offline: 1, served_offset: 1_200_000 },
      ["primary       none (--offline): serving what is kept, up to offset 1,200,000"],
    ],
    [
      "how far the disk is behind",
      { durable_offset: 1_000, durable_lag_bytes: 1_233_567, durable_age_seconds: "12.5" },
      [
        "durable       offset     1,000",
        "lag           1.2 MiB not durable yet, the oldest for 12.5 s",
      ],
    ],
    [
      "that it never was connected, and holds nothing",
      { ...down, master_link_down_since_seconds: -1, generation: 0, rdb_bytes: 0 },
      [
        "h:1 is not ready: the link is in state connect",
        "connect, never connected since its start",
        "none yet",
      ],
    ],
    [
      "since when the link is down, and why",
      {
        ...down,
        master_link_down_since_seconds: 75,
        last_error: "the primary closed the link",
        last_error_cause: "after 1.0 MiB; the likely cause is a full disk",
        last_error_time: 1_700_000_100,
      },
      [
        "state         connect, down for 1 min",
        "last error    2023-11-14 22:15:00 UTC (20 s ago): the primary closed the link after 1.0 MiB; the likely cause",
      ],
    ],
    [
      "that the history of another primary came, and when",
      { other_history: "generation 1 came from a, this from b", other_history_time: 1_700_000_100 },
      [
        "\nhistory       2023-11-14 22:15:00 UTC (20 s ago): generation 1 came from a, this from b\n",
      ],
    ],
    [
      "how stale the copy is while the link is down, and never that all is durable",
      { ...down, newest_restorable_time: 1_699_998_440, stale_seconds: 1_680 },
      ["lag           stale for 28 min\n", "to 2023-11-14 21:47:20 UTC (28 min ago)"],
    ],
    [
      "that nothing can be restored yet",
      { ...down, oldest_restorable_time: 0, newest_restorable_time: 0, stale_seconds: -1 },
      ["lag           nothing is kept yet", "restorable    nothing yet"],
    ],
    [
      "that the database can't be asked, where Redis's word for unknown is -1",
      { ...down, sealed_generations: -1, disk_free_bytes: -1 },
      ["sealed        ? sealed generations", "disk          ? free"],
    ],
    [
      "that nothing is served yet without a primary",
      { ...down, state: "none", primary: "", offline: 1, served_offset: 0 },
      ["primary       none (--offline): nothing is served yet"],
    ],
    [
      "one moment, where the rounded ones cross",
      { oldest_restorable_time: 1_700_000_100, newest_restorable_time: 1_700_000_099 },
      ["restorable    only 2023-11-14 22:15:00 UTC (20 s ago)\n"],
    ],
    [
      "how many attempts the breaks have cost",
      { ...down, breaks: 1, attempts_failed: 463 },
      ["breaks        1, 463 failed attempts"],
    ],
    [
      "that nobody is followed",
      { ...down, state: "none", primary: "" },
      ["primary       none, since REPLICAOF NO ONE"],
    ],
    [
      "which socket is followed",
      { primary: "unix:///run/redis.sock" },
      ["primary       unix:///run/redis.sock"],
    ],
    [
      "that Sentinel has named no primary yet",
      { ...down, primary: "redis+sentinel://s:26379/m", master_host: "", master_port: 0 },
      ["primary       redis+sentinel://s:26379/m, which names no primary yet"],
    ],
    [
      "how far a transfer is",
      {
        ...down,
        state: "transfer",
        master_sync_in_progress: 1,
        master_sync_total_bytes: 8 * mebibyte,
        master_sync_read_bytes: 2 * mebibyte,
      },
      ["transfer      25%  2.0 MiB of 8.0 MiB  2.0 MiB/s  0:03 left"],
    ],
    [
      "how far one of unknown length is",
      {
        ...down,
        state: "transfer",
        master_sync_in_progress: 1,
        master_sync_total_bytes: 0,
        master_sync_read_bytes: 2 * mebibyte,
      },
      ["transfer      2.0 MiB  2.0 MiB/s"],
    ],
    [
      "that one is whole",
      {
        ...down,
        state: "transfer",
        master_sync_in_progress: 1,
        master_sync_total_bytes: mebibyte,
        master_sync_read_bytes: mebibyte,
      },
      ["transfer      1.0 MiB received; verifying and syncing"],
    ],
    [
      "that the primary has not begun",
      {
        ...down,
        state: "receive-bulk-header",
        master_sync_in_progress: 1,
        master_sync_total_bytes: 0,
        master_sync_read_bytes: 0,
        sync_preparing_seconds: 12,
      },
      ["transfer      the primary is preparing the snapshot (fork), for 12 s so far"],
    ],
    [
      "how much is left of one of unknown length, by an estimate",
      {
        ...down,
        state: "transfer",
        master_sync_in_progress: 1,
        master_sync_total_bytes: 0,
        master_sync_read_bytes: 2 * mebibyte,
        sync_expected_bytes: 8 * mebibyte,
      },
      ["transfer      2.0 MiB of about 8.0 MiB  2.0 MiB/s  0:03 left (estimate)"],
    ],
    [
      "that the primary is preparing a new generation's snapshot",
      {
        rdb_bgsave_in_progress: 1,
        rdb_current_bgsave_time_sec: 3,
        snapshot_preparing_seconds: 2,
      },
      ["new snapshot  the primary is preparing it (fork), for 3 s so far"],
    ],
    [
      "how large a new generation is likely to be",
      {
        rdb_bgsave_in_progress: 1,
        rdb_current_bgsave_time_sec: 3,
        snapshot_read_bytes: mebibyte,
        snapshot_total_bytes: 0,
        snapshot_expected_bytes: 4 * mebibyte,
      },
      ["new snapshot  1.0 MiB of about 4.0 MiB (estimate), for 3 s so far"],
    ],
    [
      "how far a new generation is",
      {
        rdb_bgsave_in_progress: 1,
        rdb_current_bgsave_time_sec: 3,
        snapshot_read_bytes: mebibyte,
        snapshot_total_bytes: 4 * mebibyte,
      },
      ["new snapshot  1.0 MiB of 4.0 MiB, for 3 s so far"],
    ],
    [
      "that one failed, and that there is no room",
      { last_snapshot_error: "make room", disk_low: 1 },
      ["new snapshot  the last one failed: make room", "free, less than --min-free: no new"],
    ],
    [
      "that the data has shrunk",
      { shrunken: 1, shrunken_seconds: 301, shrunken_from: "generation 1: 12,638 keys (1.2 MiB)" },
      ["shrunken      for 5 min: less than half of generation 1: 12,638 keys (1.2 MiB); that one"],
    ],
    [
      "what gives way, and when the disk is full",
      {
        disk_free_bytes: 3 * mebibyte,
        disk_removable_bytes: 2 * mebibyte,
        disk_left_seconds: 1_801,
      },
      [
        "disk          3.0 MiB free, 2.0 MiB in old generations give way, full in 30 min at the present rate",
      ],
    ],
    [
      "that the disk is full",
      { disk_free_bytes: 0, disk_left_seconds: 0, disk_low: 1 },
      ["disk          0 B free, less than --min-free: no new snapshot is taken"],
    ],
    [
      "no end where new snapshots keep the log short",
      { disk_free_bytes: 3 * mebibyte, disk_removable_bytes: 0, disk_left_seconds: -1 },
      ["disk          3.0 MiB free\n"],
    ],
    ["that the room is unknown", { disk_free_bytes: -1 }, ["disk          ? free"]],
  ])("%s", (_name, fields, lines) => {
    for (const line of lines) expect(screenWith(fields)).toContain(line);
  });
});

test("shows what a server sends without letting it steer the terminal", () => {
  const evil = "\x1b[2Jx\x07\x9b1m\u202ey\u2028z";
  const names = [...infoWith().keys()];
  for (const value of [evil, "", "Infinity", "9".repeat(400), "-1", "1e999", "٣"]) {
    const fields = Object.fromEntries(names.map((name) => [name, value]));
    for (const info of [infoWith(fields), parseInfo(`state:${value}\nready:${value}`)]) {
      const scenes: Scene[] = [
        { at: "h:1", info },
        { at: "h:1", info, away: { reason: value, seconds: 1 } },
      ];
      for (const scene of scenes) {
        const text = screenLines(scene, plain).join("");
        expect(text).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}]/u);
        expect(text).not.toContain("NaN");
        expect(text).not.toContain("undefined");
      }
    }
  }
});

test("shows the last known state of a replica that does not answer", () => {
  const away = { reason: "nothing answers", seconds: 61 };
  const [head, ...rows] = screenLines({ at: "h:1", info: infoWith(), away }, plain);
  expect(head).toBe("h:1: no answer: nothing answers; the state below is 1 min old");
  expect(rows.join("\n")).toContain("connected");
  expect(screenLines({ at: "h:1", info: undefined, away }, plain)).toEqual([
    "h:1: no answer: nothing answers",
  ]);
});

test("colours, if wanted: green for ready, yellow during a full resync, else red", () => {
  const colored = { columns: undefined, hasColors: true };
  const head = (fields: Record<string, string | number>) =>
    screenLines({ at: "h:1", info: infoWith(fields) }, colored)[0];
  expect(head({})).toContain("\x1b[32mready");
  expect(head({ ...down, master_sync_in_progress: 1 })).toContain("\x1b[33mnot ready");
  expect(head(down)).toContain("\x1b[31mnot ready");
  expect(screenWith()).not.toContain("\x1b");
});

test("wraps lines at the width of the terminal, within their column", () => {
  const info = infoWith({ last_error: "words and words ".repeat(20) + "x".repeat(200) });
  for (const columns of [40, 80, 200]) {
    const lines = screenLines({ at: "h:1", info }, { columns, hasColors: true });
    for (const line of lines) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(columns);
    const at = lines.findIndex((line) => Bun.stripANSI(line).startsWith("last error"));
    expect(Bun.stripANSI(lines[at + 1] ?? "")).toMatch(/^ {14}\S/);
  }
});

test("a cluster's shards fit the width, whatever their names and numbers, and nothing is cut", () => {
  const shards = [1, 2, 3].map((number) => {
    const host = `node-${number}.${"of-a-long-name.".repeat(15)}example`;
    const slots = Array.from({ length: 30 }, (_, at) => `${at * 9}-${at * 9 + 4}`).join(" ");
    const row = `state=receive-bulk-header,ready=0,slots=${slots},primary=redis://${host}:6379,received_offset=9007199254740991,durable_offset=0,rdb_bytes=1099511627775,log_bytes=1099511627775`;
    return [`shard000${number}`, row] as const;
  });
  const fields: Record<string, string> = {
    cluster_state: "ok",
    ...Object.fromEntries(shards),
    shard0002_not_ready_reason: "the primary is preparing the snapshot (fork) ".repeat(5),
  };
  const info = infoWith(fields);
  for (const columns of [40, 80, 200]) {
    const lines = screenLines({ at: "h:1", info }, { columns, hasColors: false });
    for (const line of lines) expect([line, line.length <= columns]).toEqual([line, true]);
    const flat = lines.join("").replaceAll(/\s/g, "");
    expect(flat.split("of-a-long-name.").length - 1).toBeGreaterThan(columns < 80 ? 0 : 15);
    // The last slots, and sizes.
    for (const part of ["shard0002:theprimary", "261-265", "1.0TiB"])
      expect([columns, part, flat.includes(part)]).toEqual([columns, part, true]);
  }
});

test("JSON keeps text as text, and numbers that would lose digits", () => {
  const fields = parseInfo(
    "a:9007199254740993\na2:007\nb:1.5\nb2:0.50\nc:-1\nd:\nprocess_id:7\nx_version:7\nlast_error:7\nnot_ready_reason:7",
  );
  expect(infoToJson(fields)).toEqual({
    a: "9007199254740993",
    a2: "007",
    b: 1.5,
    b2: 0.5,
    c: -1,
    d: "",
    process_id: 7,
    x_version: "7",
    last_error: "7",
    not_ready_reason: "7",
  });
});

test("is ready if the replica says so", () => {
  expect(isReady(infoWith())).toBe(true);
  expect(isReady(infoWith({ ready: 0 }))).toBe(false);
  expect(isReady(infoWith({ ready: "yes" }))).toBe(false);
});

describe("the archive", () => {
  const well = {
    archive_url: "s3://bucket/prefix",
    archive_state: "archiving",
    archive_up: 1,
    archive_offset: 1_234_000,
    archive_lag_bytes: 0,
    archive_lag_snapshot_bytes: 0,
    archive_lag_seconds: "0.0",
    archive_last_success_time: 1_700_000_118,
    archive_failures: 0,
    archive_failures_by_code: "",
    archive_document_objects: 3,
    archive_document_bytes: 800,
    archive_piece_objects: 1,
    archive_piece_bytes: mebibyte,
    archive_segment_objects: 12,
    archive_segment_bytes: 3 * mebibyte,
  };

  test("has no row where nothing is archived", () => {
    for (const fields of [{}, { archive_url: "" }]) {
      expect(screenWith(fields)).not.toMatch(/archive|sent/);
    }
  });

  test("is shown with what it has", () => {
    expect(screenWith(well)).toContain(`
archive       s3://bucket/prefix: archiving
archived      offset 1,234,000, lacks nothing; last sent 2023-11-14 22:15:18 UTC (2 s ago)
sent          12 segments (3.0 MiB), 1 piece (1.0 MiB), 3 documents (800 B)
`);
  });

  test("is shown with what it lacks, and what has failed", () => {
    const text = screenWith({
      ...well,
      archive_state: "failing since 2023-11-14T22:10:00.000Z: storing s3://bucket/prefix/x: 503",
      archive_lag_bytes: mebibyte,
      archive_lag_snapshot_bytes: 2 * mebibyte,
      archive_lag_seconds: "320.5",
      archive_failures: 9,
      archive_failures_by_code: "ARCHIVE_FAILED=8,DISK_FULL=1",
    });
    expect(text).toContain("\narchive       s3://bucket/prefix: failing since 2023-11-14T22:10:00");
    expect(text).toContain(
      "lacks 1.0 MiB of log and 2.0 MiB of snapshots, the oldest for 5 min; last",
    );
    expect(text).toContain("3 documents (800 B); 9 failures (ARCHIVE_FAILED: 8, DISK_FULL: 1)\n");
  });

  test("is shown without what nobody knows", () => {
    const unknown = Object.entries(well).filter(([name]) => !/offset|lag|last_success/.test(name));
    expect(screenWith(Object.fromEntries(unknown))).toContain(
      "\narchived      no snapshot yet, lag not known\n",
    );
  });
});
