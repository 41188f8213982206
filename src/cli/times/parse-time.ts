import { parseDurationMs } from "../../base/quantity.ts";
import { localClockMs, momentsOfClock, startOfDay } from "./local-time.ts";

/** The forms that a time may have, for help and errors. */
export const TIME_FORMS =
  "ISO 8601 (local time unless it has a zone), unix seconds, unix milliseconds (13 digits), now, now-90s, now-15m, now-2h, now-1d, or a time of today (05:06 or 05:06:30, local time)";

/** A moment in milliseconds since 1970, or why there is none: a clause of its own; empty for an unknown form. */
export type ParsedTime = { readonly atMs: number } | { readonly refused: string };

const DAY_MS = 24 * 60 * 60 * 1000;
const NUMBER = /^(\d+)(\.\d{1,9})?$/;
/** The digits of a date without hyphens. As seconds they would be a day in 1970. */
const BARE_DATE = /^((?:19|20)\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$/;
const TIME_OF_DAY = /^(\d\d):(\d\d)(?::(\d\d))?$/;
/** The form of ISO 8601 without hyphens and colons, with a time. */
const BASIC = /^(\d{8})T(\d\d)(\d\d(?:\d\d(?:[.,]\d{1,9})?)?)(?=$|Z|[+-])/i;
const ISO =
  /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?)(?:(Z)|([+-]\d\d)(?::?(\d\d))?)?)?$/i;

/**
 * Parses a time as people write it, in one of the forms that TIME_FORMS names. Without a zone it is local time; a
 * date alone is the moment at which that day begins; a day of `now-1d` has 24 hours. Local time that a change of the
 * clock skips or repeats is refused: a guess would be wrong by an hour.
 * @param nowMs the present, in milliseconds since 1970.
 */
export function parseTime(text: string, nowMs: number): ParsedTime {
  if (text.trim() !== text) return { refused: "leave out the space around it" };
  if (NUMBER.test(text)) return fromNumber(text);
  if (text.startsWith("now")) return beforeNow(text, nowMs);
  if (TIME_OF_DAY.test(text)) return fromTimeOfDay(text, nowMs);
  return fromIso(text);
}

function fromNumber(text: string): ParsedTime {
  const [, digits = "", fraction] = NUMBER.exec(text)!;
  if (fraction === undefined) {
    const [, ...date] = BARE_DATE.exec(digits) ?? [];
    if (date.length > 0) return { refused: `as a date it is written ${date.join("-")}` };
    if (digits.length === 13) return { atMs: Number(digits) };
  }
  if (digits.length <= 11) return { atMs: Math.floor(Number(text) * 1000) };
  return {
    refused: `unix seconds have 10 digits and unix milliseconds 13, without a fraction; this has ${digits.length}${fraction === undefined ? "" : " and a fraction"}`,
  };
}

function beforeNow(text: string, nowMs: number): ParsedTime {
  if (text === "now") return { atMs: nowMs };
  const amount = /^now-(\d+[smhd])$/.exec(text)?.[1];
  if (amount !== undefined) {
    // A number that is too large for the ms package is too large for a time, too.
    const atMs = nowMs - (parseDurationMs(amount) ?? Infinity);
    return atMs < 0 ? { refused: "that is before 1970" } : { atMs };
  }
  if (/^now *\+/.test(text)) return { refused: "what is kept ends before now" };
  if (/^now-(?:\d+[smhd]){2,}$/.test(text)) return { refused: "give one amount: 90m, not 1h30m" };
  if (/^now-\d+$/.test(text)) return { refused: "give the unit, too: s, m, h or d" };
  return { refused: "" };
}

function fromTimeOfDay(text: string, nowMs: number): ParsedTime {
  const nowClockMs = localClockMs(nowMs);
  const today = isoDate(nowClockMs);
  const clockMs = Date.parse(`${today}T${text}Z`);
  // 24:00 is a time, but of tomorrow.
  if (Number.isNaN(clockMs) || text.startsWith("24")) return { refused: NO_SUCH_TIME };
  const moments = momentsOfClock(clockMs);
  const past = moments.filter((ms) => ms <= nowMs);
  if (moments.length === 0 || past.length > 0) return theOne(past, `${today}T${text}`);
  const time = new Date(nowClockMs).toISOString().slice(11, 19);
  return {
    refused: `today it has not come yet, since it is ${time} local time; for the day before, write ${isoDate(nowClockMs - DAY_MS)}T${text}`,
  };
}

const NO_SUCH_TIME = "there is no such date or time";

function fromIso(given: string): ParsedTime {
  const text = given.replace(BASIC, (_all, date: string, hour: string, rest: string) => {
    const [year, month, day] = [date.slice(0, 4), date.slice(4, 6), date.slice(6)];
    const seconds = rest.length > 2 ? `:${rest.slice(2)}` : "";
    return `${year}-${month}-${day}T${hour}:${rest.slice(0, 2)}${seconds}`;
  });
  const parts = ISO.exec(text);
  if (parts === null) return { refused: "" };
  const [, date = "", time, utc, hours, minutes = "00"] = parts;
  const midnightMs = Date.parse(`${date}T00:00Z`);
  // Date rolls a day that the month does not have over into the next month.
  if (Number.isNaN(midnightMs) || isoDate(midnightMs) !== date) return { refused: NO_SUCH_TIME };
  if (time === undefined) {
    const atMs = startOfDay(midnightMs);
    return atMs === undefined ? skipped(date) : { atMs };
  }
  const zone = utc ?? (hours === undefined ? undefined : `${hours}:${minutes}`);
  const clock = `${date}T${time.replace(",", ".")}`;
  const atMs = Date.parse(`${clock}${zone?.toUpperCase() ?? "Z"}`);
  if (Number.isNaN(atMs)) return { refused: NO_SUCH_TIME };
  return zone === undefined ? theOne(momentsOfClock(atMs), clock) : { atMs };
}

/** The only moment at which a local clock shows this; refused where there are two, or none. */
function theOne([first, second]: readonly number[], clock: string): ParsedTime {
  if (first === undefined) return skipped(clock);
  if (second === undefined) return { atMs: first };
  const both = [first, second].map((atMs) => new Date(atMs).toISOString()).join(" or ");
  return {
    refused: `the local clock shows ${clock} twice, since it is set back over it: write ${both}`,
  };
}

function skipped(clock: string): ParsedTime {
  return {
    refused: `the local clock never shows ${clock}, since it is set forward over it: write the time in UTC, with a Z at its end`,
  };
}

/** The date that a clock in UTC shows. */
function isoDate(clockMs: number): string {
  return new Date(clockMs).toISOString().slice(0, 10);
}
