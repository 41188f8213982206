/*
 * What the text of a setting may be, and the value that comes of it: schemas of `zod/mini`, which takes a quarter of the time of
 * the whole package to load and to build them.
 */
import * as z from "zod/mini";
import { isIP } from "../../base/address.ts";
import { type CommandNames, parseCommandNames } from "./command-names.ts";
import { parseBytes, parseDurationMs } from "../../base/quantity.ts";

const controls = /\p{Cc}/u;
const hostName = /^(?=.*[a-z])[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?$/i;

/** Up to so many characters, none of which controls a terminal. */
export const text = (maxCharacters: number) =>
  z.string().check(
    z.minLength(1),
    z.maxLength(maxCharacters),
    z.refine((given) => !controls.test(given)),
  );

/** A path. A URL in its place is a mistake, and its password would be in every message that names the file. */
export const path = () => text(4096).check(z.refine((given) => !given.includes("://")));

/** An IP address or a host name. */
export const host = () =>
  text(255).check(z.refine((given) => isIP(given) !== 0 || hostName.test(given)));

/** Host names with commas between them. */
export const hostNames = () =>
  z.pipe(
    z.pipe(
      text(4096),
      z.transform((given) => given.split(",").map((name) => name.trim())),
    ),
    z.array(z.string().check(z.regex(hostName))),
  );

/** Names of a command; see `parseCommandNames`. */
export const commandNames = () =>
  z.pipe(
    z.pipe(text(65_536), z.transform(parseCommandNames)),
    z.custom<CommandNames>((given) => given !== undefined),
  );

/** The URL of a server, without a login: that would be a secret. */
export const httpUrl = () => text(2048).check(z.regex(/^https?:\/\/[^\s/?#@]+(?:\/[^\s?#@]*)?$/i));

/** age recipients with commas between them. Who makes the encryption checks each: a secret key in its place must not be shown. */
export const recipients = () =>
  z.pipe(
    z.pipe(
      text(65_536),
      z.transform((given) => given.split(",").map((one) => one.trim())),
    ),
    z.array(z.string().check(z.minLength(1))),
  );

/** A host and a port, with brackets around an IPv6 address. */
export const hostAndPort = () =>
  z.pipe(
    z.pipe(text(300), z.transform(splitHostAndPort)),
    z.object({ host: z.string(), port: z.number() }),
  );

function splitHostAndPort(given: string): { host: string; port: number } | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(given);
  const name = match?.[1] ?? match?.[2] ?? "";
  const number = Number(match?.[3]);
  const isHost =
    match?.[1] === undefined ? isIP(name) === 4 || hostName.test(name) : isIP(name) === 6;
  return isHost && number <= 65535 ? { host: name, port: number } : undefined;
}

const within = (min: number, max: number) => z.number().check(z.minimum(min), z.maximum(max));

/** A number that is written like this, within bounds. */
const numberLike = (pattern: RegExp, min: number, max: number) =>
  z.pipe(
    z.pipe(
      z.string().check(z.regex(pattern)),
      z.transform((given) => Number(given)),
    ),
    within(min, max),
  );

/** A whole number within bounds. */
export const wholeNumber = (min: number, max: number) => numberLike(/^\d{1,15}$/, min, max);

/** A number with up to six decimals within bounds. */
export const ratio = (min: number, max: number) => numberLike(/^\d{1,7}(\.\d{1,6})?$/, min, max);

/** A size within bounds, in bytes. */
export const bytes = (min: number, max: number) =>
  z.pipe(z.pipe(z.string(), z.transform(parseBytes)), within(min, max));

/** A duration within bounds, in milliseconds. */
export const durationMs = (min: number, max: number) =>
  z.pipe(z.pipe(z.string(), z.transform(parseDurationMs)), within(min, max));

/** Whole numbers from the first to the last, both included. */
export interface NumberRange {
  readonly first: number;
  /** Infinity: all from the first on. */
  readonly last: number;
}

/** `0-31`, `32-` or `7`, up to a bound. */
export const numberRange = (max: number) =>
  z
    .pipe(
      z.string().check(z.regex(/^\d{1,9}(?:-\d{0,9})?$/)),
      z.transform((given): NumberRange => {
        const [first = "", last] = given.split("-");
        const end = last === undefined ? first : last === "" ? Infinity : last;
        return { first: Number(first), last: Number(end) };
      }),
    )
    .check(
      z.refine(
        ({ first, last }) => first <= last && first <= max && (last <= max || last === Infinity),
      ),
    );

/** A server that snapshots are to be for, and how it was named. */
export interface SnapshotServer {
  readonly product: "Redis" | "Valkey";
  readonly major: number;
  readonly minor: number;
  readonly text: string;
}

/** `valkey-8.1`, `redis-7.2`, or Valkey's version alone; from 7.2 on, since no older one loads anything that Valkey writes. */
export const snapshotServer = () =>
  z
    .pipe(
      z.string().check(z.regex(/^(?:(?:redis|valkey)-)?\d{1,3}\.\d{1,3}(?:\.\d{1,3})?$/)),
      z.transform((given): SnapshotServer => {
        const [major = 0, minor = 0] = given
          .replace(/^[a-z]+-/, "")
          .split(".")
          .map(Number);
        const product = given.startsWith("redis") ? "Redis" : "Valkey";
        return { product, major, minor, text: given };
      }),
    )
    .check(
      z.refine(({ major, minor }) => major > 7 || (major === 7 && minor >= 2)),
      // Valkey keeps each in a byte.
      z.refine(({ major, minor }) => major < 256 && minor < 256),
    );

/** One of these words. */
export const oneOf = <const Word extends string>(...words: readonly [Word, ...Word[]]) =>
  z.enum(words);

/** Whether a switch is on. */
export const toggle = () =>
  z.stringbool({ truthy: ["true", "1", "yes"], falsy: ["false", "0", "no"] });

/** "off" as well, so that a flag can turn off what a file or the default turns on: undefined. */
export const orOff = <T extends z.ZodMiniType<unknown, string>>(schema: T) =>
  z.union([
    z.pipe(
      z.literal("off"),
      z.transform(() => undefined),
    ),
    schema,
  ]);
