import { describe, expect, test } from "bun:test";
import { Metrics } from "../../src/monitor/metrics.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import { expositionComplaints, parseExposition } from "../support/exposition.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { freePort } from "../support/ports.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** A replica of `url` with its metrics. */
function measured(url: string) {
  const dir = tempDir("metrics");
  const metrics = new Metrics();
  const looks = new FaultyDisk();
  const disk = { ...metrics.timed(realDisk), freeBytes: (path: string) => looks.freeBytes(path) };
  const following = follow(url, disk, dir);
  metrics.of(following.status, "1.2.3");
  return {
    ...following,
    /** The disk that says how much is free. */
    looks,
    text: async () => {
      // What is asked for within one turn of the event loop is read once.
      await new Promise(setImmediate);
      return await metrics.text();
    },
    [Symbol.asyncDispose]: async () => {
      await following[Symbol.asyncDispose]();
      dir.remove();
    },
  };
}

/** Every series without its value. */
function seriesOf(text: string): string[] {
  return parseExposition(text).flatMap(({ samples }) =>
    samples.map(({ name, labels }) => `${name} ${JSON.stringify([...labels])}`),
  );
}

describe("the metrics pass promtool's checks and have the same series", () => {
  test("before anything was received", async () => {
    await using replica = measured(`redis://127.0.0.1:${freePort()}`);
    await until(() => replica.replica.links.last?.error !== undefined, {
      what: "a refused connect",
    });
    const text = await replica.text();
    expect(expositionComplaints(text)).toEqual([]);
    const samples = parseExposition(text).flatMap((family) => family.samples);
    const valueOf = (name: string) => samples.find((sample) => sample.name === name)?.value;
    expect(valueOf("replica_link_up")).toBe(0);
    expect(valueOf("replica_generation_id")).toBe(0);
    expect(valueOf("replica_generation_timestamp_seconds")).toBe(0);
  });

  test("while the link is up, and after it went down", async () => {
    const primary = fakePrimary(async (peer) => {
      await standardHandshake(peer, { replid: REPLID, offset: 100 });
      await peer.send(bulkPayload(smallRdb("a value")));
    });
    await using replica = measured(primary.url);
    const before = await replica.text();
    const startedSeconds = Date.now() / 1000;
    await replica.connected();
    const connected = await replica.text();
    expect(expositionComplaints(connected)).toEqual([]);
    const found = parseExposition(connected).flatMap((family) => family.samples);
    const since = found.find(({ name }) => name === "replica_generation_timestamp_seconds")?.value;
    expect(since).toBeGreaterThan(startedSeconds - 60);
    await primary.stop();
    await until(() => replica.replica.links.downSeconds !== undefined, { what: "a link down" });
    const down = await replica.text();
    expect(expositionComplaints(down)).toEqual([]);
    // rate() misses the first event of a series that appears with it.
    const kept = /^replica_generations /;
    const always = (text: string) => seriesOf(text).filter((series) => !kept.test(series));
    expect(always(connected)).toEqual(always(before));
    expect(always(down)).toEqual(always(before));
  });
});

test("tells of the process by the names that all programs use", async () => {
  await using replica = measured(`redis://127.0.0.1:${freePort()}`);
  const samples = parseExposition(await replica.text()).flatMap((family) => family.samples);
  const valueOf = (name: string) => samples.find((sample) => sample.name === name)?.value ?? NaN;
  const limits = await Bun.file("/proc/self/limits").text();
  expect(valueOf("process_max_fds")).toBe(Number(/open files +(\d+)/.exec(limits)?.[1]));
  expect(valueOf("process_open_fds")).toBeGreaterThan(3);
  expect(valueOf("process_open_fds")).toBeLessThan(valueOf("process_max_fds"));
  expect(valueOf("process_resident_memory_bytes")).toBeGreaterThan(10e6);
  expect(valueOf("process_start_time_seconds")).toBe(valueOf("replica_start_time_seconds"));
  // Read one after the other.
  const modes = samples.filter(({ name }) => name === "replica_cpu_seconds_total");
  const both = modes.reduce((sum, { value }) => sum + value, 0);
  expect(valueOf("process_cpu_seconds_total")).toBeGreaterThanOrEqual(both);
});

test("leaves out states without a generation, and metrics that can't be read", async () => {
  const go = Promise.withResolvers<void>();
  await using primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    const payload = bulkPayload(smallRdb("a value"));
    await peer.send(payload.subarray(0, -1));
    await go.promise;
    await peer.send(payload.subarray(-1));
  });
  const replica = measured(primary.url);
  const seen = async (name: string) => {
    const text = await replica.text();
    expect(expositionComplaints(text)).toEqual([]);
    expect(text).toContain("\nreplica_build_info");
    return seriesOf(text).filter((series) => series.startsWith(`${name} `));
  };
  await until(() => replica.replica.state.at === "transfer", { what: "the payload" });
  expect(await seen("replica_generations")).toEqual([
    'replica_generations [["state","receiving"]]',
  ]);
  go.resolve();
  await replica.connected();
  expect(await seen("replica_generations")).toEqual(['replica_generations [["state","current"]]']);
  expect(await seen("replica_disk_free_bytes")).toHaveLength(1);
  replica.looks.fail({ operation: "freeBytes", code: "EIO" });
  expect(await seen("replica_disk_free_bytes")).toEqual([]);
  // This closes the database.
  await replica[Symbol.asyncDispose]();
  expect(await seen("replica_generations")).toEqual([]);
});

describe("the check of metrics", () => {
  const about = (name: string, type = "gauge") => `# HELP ${name} Help.\n# TYPE ${name} ${type}\n`;
  const histogram = (lines: readonly string[]) =>
    `${about("x", "histogram")}${lines.map((line) => `x_${line}\n`).join("")}`;

  const complaints: [string, string, string][] = [
    ["no help", "# TYPE a gauge\na 1\n", "a has no help"],
    ["an empty help", "# HELP a  \n# TYPE a gauge\na 1\n", "a has no help"],
    ["no type", "# HELP a Help.\na 1\n", "a has no type"],
    ["a counter", `${about("a", "counter")}a 1\n`, "a is a counter without _total"],
    ["a gauge", `${about("a_total")}a_total 1\n`, "a_total ends in _total and is no counter"],
    ["a colon", `${about("a:b")}a:b 1\n`, "a:b has a colon, which is for recording rules"],
    ["camelCase", `${about("aB")}aB 1\n`, "aB is written in camelCase"],
    ["a type", `${about("a_gauge")}a_gauge 1\n`, "a_gauge has a type in its name"],
    ["an abbreviation", `${about("a_ms")}a_ms 1\n`, "a_ms has an abbreviated unit"],
    ["a prefix", `${about("a_kilobytes")}a_kilobytes 1\n`, "a_kilobytes is not in a base unit"],
    ["a unit", `${about("a_minutes")}a_minutes 1\n`, "a_minutes is not in a base unit"],
    ["a suffix", `${about("a_count")}a_count 1\n`, "a_count ends as the parts of a histogram do"],
    ["twice", `${about("a")}a 1\na 2\n`, 'a has the series ["a",[]] twice'],
    ["labels twice", `${about("a")}a{b="1",c="2"} 1\na{c="2",b="1"} 2\n`, "twice"],
    ["a label", `${about("a")}a{bC="1"} 1\n`, "a has the label bC"],
    ["a reserved label", `${about("a")}a{le="1"} 1\n`, "a is a gauge with the label le"],
    ["a negative count", `${about("a_total", "counter")}a_total -1\n`, "a counter of -1"],
    ["no +Inf", histogram(['bucket{le="1"} 1', "sum 1", "count 1"]), "x has no bucket +Inf"],
    ["no sum", histogram(['bucket{le="1"} 1', 'bucket{le="+Inf"} 1', "count 1"]), "x has no _sum"],
    [
      "another count",
      histogram(['bucket{le="+Inf"} 1', "sum 1", "count 2"]),
      "x_count is not its last bucket",
    ],
    [
      "buckets that fall",
      histogram(['bucket{le="1"} 2', 'bucket{le="+Inf"} 1', "sum 1", "count 1"]),
      "x has buckets that don't add up",
    ],
    [
      "buckets out of order",
      histogram([
        'bucket{le="2"} 0',
        'bucket{le="1"} 1',
        'bucket{le="+Inf"} 1',
        "sum 1",
        "count 1",
      ]),
      "x has buckets out of order",
    ],
  ];
  test.each(complaints)("complains of %s", (_name, text, complaint) => {
    const found = expositionComplaints(text);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(complaint);
  });

  const refusals: [string, string, string][] = [
    ["a last line without end", "a 1", "the last line has no end"],
    ["two pieces", `${about("a")}a{b="1"} 1\n${about("c")}c 1\na{b="2"} 1\n`, "two pieces"],
    ["a type after samples", "# HELP a Help.\na 1\n# TYPE a gauge\n", "after its samples"],
    ["a second help", "# HELP a Help.\n# HELP a Help.\n", "a second HELP of a"],
    ["an unknown type", "# TYPE a number\n", "no type number"],
    ["a value that is none", "a one\n", "no sample: a one"],
    ["a name that is none", "1a 1\n", "no sample: 1a 1"],
    ["labels that aren't closed", 'a{b="1} 1\n', "no labels"],
    ["a label twice", 'a{b="1",b="2"} 1\n', "the label b twice"],
  ];
  test.each(refusals)("refuses %s", (_name, text, message) => {
    expect(() => parseExposition(text)).toThrow(message);
  });

  test("accepts everything that the format allows", () => {
    const text = [
      '# a comment\n\n# HELP a_total Help with \\n and \\\\.\n# TYPE a_total counter\na_total{b="\\"x\\\\\\n",} 1e3 1700000000000\n',
      histogram(['bucket{le="0.5"} 1', 'bucket{le="+Inf"} 2', "sum NaN", "count 2"]),
    ].join("");
    expect(expositionComplaints(text)).toEqual([]);
  });
});
