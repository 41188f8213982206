import { describe, expect, test } from "bun:test";
import {
  localClockMs,
  momentsOfClock,
  shownTwice,
  startOfDay,
} from "../../../src/cli/times/local-time.ts";
import { inZone } from "./in-zone.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const ZONES = [
  "UTC",
  "Europe/Berlin",
  "America/New_York",
  "Asia/Kolkata",
  "Asia/Kathmandu",
  "Australia/Lord_Howe",
  "Pacific/Kiritimati",
  "Pacific/Pago_Pago",
  "America/Havana",
  "Africa/Cairo",
  "Africa/Casablanca",
];

function shown(moments: readonly number[]): string[] {
  return moments.map((atMs) => new Date(atMs).toISOString());
}

describe.each(ZONES)("in %s", (zone) => {
  test("every half hour of a year is among the moments at which the clock shows what it shows then", () => {
    inZone(zone, () => {
      const startMs = Date.UTC(2026, 0, 1);
      for (let atMs = startMs; atMs < startMs + 365 * DAY_MS; atMs += 30 * MINUTE_MS) {
        const clockMs = localClockMs(atMs);
        const moments = momentsOfClock(clockMs);
        if (!moments.includes(atMs)) throw new Error(`${zone}: ${new Date(atMs).toISOString()}`);
        for (const moment of moments) expect(localClockMs(moment)).toBe(clockMs);
      }
    });
  });

  test("every day of a year begins with the first moment that has its date", () => {
    inZone(zone, () => {
      const startMs = Date.UTC(2026, 0, 1);
      for (let midnightMs = startMs; midnightMs < startMs + 365 * DAY_MS; midnightMs += DAY_MS) {
        const atMs = startOfDay(midnightMs)!;
        expect(localClockMs(atMs)).toBeWithin(midnightMs, midnightMs + DAY_MS);
        expect(localClockMs(atMs - 1)).toBeLessThan(midnightMs);
      }
    });
  });
});

test.each([
  ["Europe/Berlin", "2026-01-31T12:00", ["2026-01-31T11:00:00.000Z"]],
  ["Europe/Berlin", "2026-03-29T01:59", ["2026-03-29T00:59:00.000Z"]],
  ["Europe/Berlin", "2026-03-29T02:00", []],
  ["Europe/Berlin", "2026-03-29T02:59", []],
  ["Europe/Berlin", "2026-03-29T03:00", ["2026-03-29T01:00:00.000Z"]],
  ["Europe/Berlin", "2026-10-25T01:59", ["2026-10-24T23:59:00.000Z"]],
  ["Europe/Berlin", "2026-10-25T02:00", ["2026-10-25T00:00:00.000Z", "2026-10-25T01:00:00.000Z"]],
  ["Europe/Berlin", "2026-10-25T03:00", ["2026-10-25T02:00:00.000Z"]],
  // Half an hour forward, half an hour back.
  ["Australia/Lord_Howe", "2026-10-04T02:15", []],
  [
    "Australia/Lord_Howe",
    "2026-04-05T01:45",
    ["2026-04-04T14:45:00.000Z", "2026-04-04T15:15:00.000Z"],
  ],
])("in %s a clock shows %s at %j", (zone, clock, wanted) => {
  expect(inZone(zone, () => shown(momentsOfClock(Date.parse(`${clock}Z`))))).toEqual(wanted);
});

test.each([
  ["Africa/Cairo", "2026-04-24", "2026-04-23T22:00:00.000Z"],
  ["America/Havana", "2026-11-01", "2026-11-01T04:00:00.000Z"],
  ["Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00.000Z"],
])("in %s the day %s begins at %s, whatever the clock does at midnight", (zone, day, wanted) => {
  expect(inZone(zone, () => shown([startOfDay(Date.parse(day))!]))).toEqual([wanted]);
});

test("a day that the clock skipped does not begin", () => {
  // Samoa went over the date line.
  expect(inZone("Pacific/Apia", () => startOfDay(Date.parse("2011-12-30")))).toBeUndefined();
});

test.each([
  [
    "Europe/Berlin",
    "2026-01-31T12:34:56.789Z, which is 2026-01-31T13:34:56.789+01:00 in local time",
  ],
  [
    "America/New_York",
    "2026-01-31T12:34:56.789Z, which is 2026-01-31T07:34:56.789-05:00 in local time",
  ],
  [
    "Asia/Kathmandu",
    "2026-01-31T12:34:56.789Z, which is 2026-01-31T18:19:56.789+05:45 in local time",
  ],
  [
    "America/St_Johns",
    "2026-01-31T12:34:56.789Z, which is 2026-01-31T09:04:56.789-03:30 in local time",
  ],
  ["UTC", "2026-01-31T12:34:56.789Z, and local time is UTC"],
])("in %s a moment is shown in UTC and in local time", (zone, wanted) => {
  expect(inZone(zone, () => shownTwice(Date.parse("2026-01-31T12:34:56.789Z")))).toBe(wanted);
});
