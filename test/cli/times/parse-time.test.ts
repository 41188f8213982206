import { describe, expect, test } from "bun:test";
import { parseTime } from "../../../src/cli/times/parse-time.ts";
import { inZone } from "./in-zone.ts";

/** 13:34:56 in Berlin. */
const NOW = "2026-01-31T12:34:56.789Z";

/** What a text means; `refused: …` where it means nothing. */
function parsed(text: string, now = NOW, zone = "Europe/Berlin"): string {
  return inZone(zone, () => {
    const result = parseTime(text, Date.parse(now));
    return "atMs" in result ? new Date(result.atMs).toISOString() : `refused: ${result.refused}`;
  });
}

describe("ISO 8601", () => {
  test.each([
    // Without a zone it is local time.
    ["2026-01-31", "2026-01-30T23:00:00.000Z"],
    ["2026-07-31", "2026-07-30T22:00:00.000Z"],
    ["2026-01-31T00:00", "2026-01-30T23:00:00.000Z"],
    ["2026-01-31 12:34", "2026-01-31T11:34:00.000Z"],
    ["2026-01-31T12:34:56", "2026-01-31T11:34:56.000Z"],
    ["2026-07-31T12:34:56", "2026-07-31T10:34:56.000Z"],
    ["2026-01-31T12:34:56.7", "2026-01-31T11:34:56.700Z"],
    ["2026-01-31T24:00", "2026-01-31T23:00:00.000Z"],
    ["2026-01-31T12:34Z", "2026-01-31T12:34:00.000Z"],
    ["2026-01-31t12:34:56,789z", "2026-01-31T12:34:56.789Z"],
    ["2026-01-31T12:34:56.123456789Z", "2026-01-31T12:34:56.123Z"],
    ["2026-01-31T12:34+00", "2026-01-31T12:34:00.000Z"],
    ["2026-01-31T12:34:56-08", "2026-01-31T20:34:56.000Z"],
    ["2026-01-31T12:34+0530", "2026-01-31T07:04:00.000Z"],
    ["2026-01-31 12:34:56.5+05:30", "2026-01-31T07:04:56.500Z"],
    ["2028-02-29T00:00Z", "2028-02-29T00:00:00.000Z"],
    // Without hyphens and colons.
    ["20260131T1234", "2026-01-31T11:34:00.000Z"],
    ["20260131T123456Z", "2026-01-31T12:34:56.000Z"],
    ["20260131T123456.5+0100", "2026-01-31T11:34:56.500Z"],
    // With its zone, a time that the local clock skips or repeats is one moment.
    ["2026-03-29T02:30Z", "2026-03-29T02:30:00.000Z"],
    ["2026-10-25T02:30:00+02:00", "2026-10-25T00:30:00.000Z"],
    ["2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00.000Z"],
    // What is to come is a time, too; whether it is kept is another question.
    ["2036-01-31T12:34Z", "2036-01-31T12:34:00.000Z"],
  ])("%s is %s", (text, wanted) => {
    expect(parsed(text)).toBe(wanted);
  });

  test.each([
    "2026-00-10",
    "2026-13-01",
    "2026-01-00",
    "2026-01-32",
    "2026-02-30",
    "2026-02-29T12:00Z",
    "2026-04-31T12:00",
    "2026-01-31T25:00",
    "2026-01-31T24:01",
    "2026-01-31T12:60",
    "2026-01-31T12:00:61",
    "2026-01-31T12:00+24:00",
    "20260230T1200Z",
    "24:00",
    "25:00",
    "12:60",
    "12:00:61",
  ])("%s does not exist", (text) => {
    expect(parsed(text)).toBe("refused: there is no such date or time");
  });

  test.each([
    ["2026-03-29T02:30", /^refused: the local clock never shows 2026-03-29T02:30, .* in UTC/],
    ["2026-03-29 02:00:00", /^refused: the local clock never shows 2026-03-29T02:00:00, /],
    [
      "2026-10-25T02:30",
      /^refused: the local clock shows 2026-10-25T02:30 twice, .* 2026-10-25T00:30:00\.000Z or 2026-10-25T01:30:00\.000Z$/,
    ],
  ])("%s is refused where a change of the clock skips or repeats it", (text, why) => {
    expect(parsed(text)).toMatch(why);
  });

  test("a day that begins with a change of the clock begins with the change", () => {
    expect(parsed("2026-04-24", NOW, "Africa/Cairo")).toBe("2026-04-23T22:00:00.000Z");
    expect(parsed("2026-11-01", NOW, "America/Havana")).toBe("2026-11-01T04:00:00.000Z");
    expect(parsed("2011-12-30", NOW, "Pacific/Apia")).toMatch(/never shows 2011-12-30/);
  });
});

describe("unix seconds and milliseconds", () => {
  test.each([
    ["0", "1970-01-01T00:00:00.000Z"],
    ["1769862896", "2026-01-31T12:34:56.000Z"],
    ["1769862896.789", "2026-01-31T12:34:56.789Z"],
    ["1769862896.123456789", "2026-01-31T12:34:56.123Z"],
    ["99999999999", "5138-11-16T09:46:39.000Z"],
    ["1769862896789", "2026-01-31T12:34:56.789Z"],
    ["0000000000001", "1970-01-01T00:00:00.001Z"],
  ])("%s is %s", (text, wanted) => {
    expect(parsed(text)).toBe(wanted);
  });

  test.each([
    ["123456789012", "this has 12"],
    ["20260131123456", "this has 14"],
    ["1769862896789.5", "this has 13 and a fraction"],
    ["9".repeat(400), "this has 400"],
  ])("%s is neither", (text, told) => {
    expect(parsed(text)).toBe(
      `refused: unix seconds have 10 digits and unix milliseconds 13, without a fraction; ${told}`,
    );
  });

  test("a date without hyphens is not taken for a second of 1970", () => {
    expect(parsed("20260131")).toBe("refused: as a date it is written 2026-01-31");
    expect(parsed("20261331")).toBe("1970-08-23T12:08:51.000Z");
  });
});

describe("now", () => {
  test.each([
    ["now", NOW],
    ["now-0s", NOW],
    ["now-90s", "2026-01-31T12:33:26.789Z"],
    ["now-15m", "2026-01-31T12:19:56.789Z"],
    ["now-2h", "2026-01-31T10:34:56.789Z"],
    ["now-1d", "2026-01-30T12:34:56.789Z"],
    ["now-007m", "2026-01-31T12:27:56.789Z"],
    ["now-20000d", "1971-04-30T12:34:56.789Z"],
  ])("%s is %s", (text, wanted) => {
    expect(parsed(text)).toBe(wanted);
  });

  test("a day has 24 hours, also over a change of the clock", () => {
    expect(parsed("now-1d", "2026-03-29T12:00:00.000Z")).toBe("2026-03-28T12:00:00.000Z");
  });

  test.each([
    ["now+5m", "what is kept ends before now"],
    ["now + 5m", "what is kept ends before now"],
    ["now-1h30m", "give one amount: 90m, not 1h30m"],
    ["now-90", "give the unit, too: s, m, h or d"],
    ["now-30000d", "that is before 1970"],
    [`now-${"9".repeat(30)}s`, "that is before 1970"],
    [`now-${"9".repeat(400)}d`, "that is before 1970"],
  ])("%s is refused, and why is said", (text, why) => {
    expect(parsed(text)).toBe(`refused: ${why}`);
  });
});

describe("a time of today", () => {
  test.each([
    ["05:06", "2026-01-31T04:06:00.000Z"],
    ["05:06:30", "2026-01-31T04:06:30.000Z"],
    ["00:00", "2026-01-30T23:00:00.000Z"],
    ["13:34:56", "2026-01-31T12:34:56.000Z"],
  ])("%s is %s", (text, wanted) => {
    expect(parsed(text)).toBe(wanted);
  });

  test("today is the day in local time", () => {
    expect(parsed("00:30", "2026-01-30T23:45:00.000Z")).toBe("2026-01-30T23:30:00.000Z");
    const west = "America/New_York";
    expect(parsed("18:00", "2026-02-01T00:30:00.000Z", west)).toBe("2026-01-31T23:00:00.000Z");
  });

  test("one that has not come yet is refused, with yesterday's", () => {
    const told = (date: string, time: string) =>
      `refused: today it has not come yet, since it is ${time} local time; for the day before, write ${date}`;
    expect(parsed("13:34:57")).toBe(told("2026-01-30T13:34:57", "13:34:56"));
    expect(parsed("23:59", "2026-02-28T23:00:00.000Z")).toBe(told("2026-02-28T23:59", "00:00:00"));
  });

  test("one that the clock skipped today is refused", () => {
    expect(parsed("02:30", "2026-03-29T12:00:00.000Z")).toMatch(
      /^refused: the local clock never shows 2026-03-29T02:30, /,
    );
  });

  test("one that the clock shows twice today is the first while the second has not come", () => {
    expect(parsed("02:30", "2026-10-25T00:45:00.000Z")).toBe("2026-10-25T00:30:00.000Z");
    expect(parsed("02:30", "2026-10-25T12:00:00.000Z")).toMatch(
      /^refused: the local clock shows 2026-10-25T02:30 twice, .* 2026-10-25T00:30:00\.000Z or /,
    );
  });
});

test.each([" now", "now ", "2026-01-31\n", "\t05:06"])("%j is refused for its space", (text) => {
  expect(parsed(text)).toBe("refused: leave out the space around it");
});

test.each([
  "",
  "yesterday",
  "noon",
  "2026-01",
  "2026-1-31",
  "2026-01-31Z",
  "2026-01-31T12",
  "2026-01-31T12:00+1",
  "2026-01-31T12:00:",
  "2026-01-31T12:00Z and more",
  "20260131T12",
  "20260131T12:00",
  "-1",
  "1e9",
  "0x10",
  "1769862896.",
  "1769862896.1234567890",
  "Now",
  "now-",
  "now-5M",
  "now-1w",
  "now-500ms",
  "now-1.5h",
  "now - 5m",
  "now--5m",
  "nowadays",
  "5:06",
  "05:06Z",
  "05:06:30.5",
  "05:06 PM",
])("%j has none of the forms", (text) => {
  expect(parsed(text)).toBe("refused: ");
});
