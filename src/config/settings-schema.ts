import { isIP } from "node:net";
import { z } from "zod";
import { parseBytes, parseDurationMs } from "../base/quantity.ts";

/** What help, docs/SETTINGS.md and errors say about a setting. */
export interface AboutSetting {
  /** A switch takes no value on the command line; a number needs no quotes in the settings file. */
  readonly kind: "text" | "number" | "switch";
  /** The value's placeholder in help; empty for a switch. */
  readonly value: string;
  /** The values it takes, to complete "it takes …". */
  readonly takes: string;
  /** What it does, in one line. */
  readonly help: string;
  /** What to print as the default if there is no default value. */
  readonly unset?: string;
}

export const aboutSettings = z.registry<AboutSetting>();

const controls = /\p{Cc}/u;
const text = (maxCharacters: number) =>
  z
    .string()
    .min(1)
    .max(maxCharacters)
    .refine((value) => !controls.test(value));
const hostName = /^(?=.*[a-z])[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?$/i;
const path = () => text(4096);
const wholeNumber = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,15}$/)
    .transform(Number)
    .pipe(z.number().min(min).max(max));
const bytes = (min: number, max: number) =>
  z.string().transform(parseBytes).pipe(z.number().min(min).max(max));
const durationMs = (min: number, max: number) =>
  z.string().transform(parseDurationMs).pipe(z.number().min(min).max(max));
const ratio = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,7}(\.\d{1,6})?$/)
    .transform(Number)
    .pipe(z.number().min(min).max(max));
const toggle = () =>
  z.stringbool({ truthy: ["true", "1", "yes"], falsy: ["false", "0", "no"] }).prefault("false");

/** A setting that is off by default, or takes "off" so that a flag can turn off what a file or the default turns on. */
const orOff = <T extends z.ZodType<unknown, string>>(schema: T) =>
  z
    .literal("off")
    .transform(() => undefined)
    .or(schema)
    .optional();

const secondMs = 1000;
const dayMs = 24 * 60 * 60 * secondMs;
const file = { kind: "text", value: "FILE", takes: "the path of a file" } as const;
const onOff = { kind: "switch", value: "", takes: "true, 1, yes, false, 0 or no" } as const;
const port = { kind: "number", value: "PORT" } as const;
const duration = { kind: "number", value: "TIME" } as const;

/**
 * Every setting: its name, default, bounds, unit and help. A value comes in as text, from whichever
 * source, and comes out in the unit that `Settings` names.
 */
export const settingsSchema = z.strictObject({
  dir: path().prefault("./replica-data").register(aboutSettings, {
    kind: "text",
    value: "DIR",
    takes: "the path of a directory",
    help: "the data directory",
  }),
  port: wholeNumber(0, 65535)
    .prefault("6380")
    .register(aboutSettings, {
      ...port,
      takes: "a whole number from 0 to 65535; 0 picks a free one",
      help: "the port to serve on, and to announce to the primary; 0 picks a free one",
    }),
  bind: text(255)
    .refine((value) => isIP(value) !== 0 || hostName.test(value))
    .prefault("127.0.0.1")
    .register(aboutSettings, {
      kind: "text",
      value: "ADDR",
      takes: "one address, such as 127.0.0.1, ::1 or 0.0.0.0",
      help: "the address to serve on",
    }),
  "announce-ip": text(255)
    .refine((value) => isIP(value) !== 0 || hostName.test(value))
    .optional()
    .register(aboutSettings, {
      kind: "text",
      value: "ADDR",
      takes: "an address or a host name",
      help: "the address that the primary reports for this replica (NAT, containers)",
      unset: "the bound address",
    }),
  "announce-port": wholeNumber(1, 65535)
    .optional()
    .register(aboutSettings, {
      ...port,
      takes: "a whole number from 1 to 65535",
      help: "the port that the primary reports for this replica (NAT, containers)",
      unset: "the bound port",
    }),
  announce: z.enum(["yes", "no"]).prefault("no").register(aboutSettings, {
    kind: "text",
    value: "WHETHER",
    takes: "yes or no",
    help: "whether Sentinel hands this replica to clients, whose reads it refuses; it is repointed either way (replica-announced)",
  }),
  http: orOff(
    text(300).transform((value, context) => {
      const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(value);
      const host = match?.[1] ?? match?.[2] ?? "";
      const number = Number(match?.[3]);
      const isHost =
        match?.[1] === undefined ? isIP(host) === 4 || hostName.test(host) : isIP(host) === 6;
      if (isHost && number <= 65535) return { host, port: number };
      context.addIssue({ code: "custom", message: "no address" });
      return z.NEVER;
    }),
  ).register(aboutSettings, {
    kind: "text",
    value: "ADDR:PORT",
    takes: "an address and a port, such as 127.0.0.1:6395 or [::1]:6395, or off",
    help: "serve metrics, health checks and a status page over HTTP; no password is required",
    unset: "off",
  }),
  "ready-lag": durationMs(secondMs, dayMs)
    .prefault("10s")
    .register(aboutSettings, {
      ...duration,
      takes: "a duration from 1s to 1d, such as 10s; a bare number is in seconds",
      help: "how long a received byte may stay unsynced (with --fsync no: unwritten) before the replica counts as not ready",
    }),
  username: text(1024).optional().register(aboutSettings, {
    kind: "text",
    value: "NAME",
    takes: "a user name",
    help: "the user name for the primary; one in the URL takes precedence",
    unset: "none",
  }),
  "password-file": path()
    .optional()
    .register(aboutSettings, {
      ...file,
      help: "the file that holds the primary's password; one in the URL takes precedence, and REPLICA_PASSWORD comes last",
      unset: "none",
    }),
  "sentinel-username": text(1024).optional().register(aboutSettings, {
    kind: "text",
    value: "NAME",
    takes: "a user name",
    help: "the user name for the Sentinels themselves; needs --sentinel-password-file",
    unset: "none",
  }),
  "sentinel-password-file": path()
    .optional()
    .register(aboutSettings, {
      ...file,
      help: "the file that holds the Sentinels' own password; without it, no password is sent to them",
      unset: "none",
    }),
  "requirepass-file": path()
    .optional()
    .register(aboutSettings, {
      ...file,
      help: "the file that holds the password for clients of this port",
      unset: "none",
    }),
  unprotected: toggle().register(aboutSettings, {
    ...onOff,
    help: "serve beyond loopback without a password",
  }),
  "tls-ca": path()
    .optional()
    .register(aboutSettings, {
      ...file,
      help: "the CA certificates (PEM) to verify the primary's certificate with",
      unset: "system CAs",
    }),
  "tls-cert": path()
    .optional()
    .register(aboutSettings, {
      ...file,
      help: "the client certificate (PEM) to present to the primary; needs --tls-key",
      unset: "none",
    }),
  "tls-key": path()
    .optional()
    .register(aboutSettings, {
      ...file,
      help: "the private key (PEM) of --tls-cert",
      unset: "none",
    }),
  "tls-server-name": text(255).optional().register(aboutSettings, {
    kind: "text",
    value: "NAME",
    takes: "a host name",
    help: "the host name to request, and to verify in the primary's certificate",
    unset: "the URL's host",
  }),
  "tls-insecure": toggle().register(aboutSettings, {
    ...onOff,
    help: "don't verify the primary's certificate",
  }),
  io: z.enum(["auto", "buffered", "direct"]).prefault("auto").register(aboutSettings, {
    kind: "text",
    value: "HOW",
    takes: "auto, buffered or direct",
    help: "write snapshots through the page cache (buffered) or past it (direct); auto: direct where the file system allows it, else buffered",
  }),
  "rdb-sync-bytes": bytes(4096, 1024 ** 4)
    .prefault("8MiB")
    .register(aboutSettings, {
      kind: "number",
      value: "SIZE",
      takes: "a size from 4096 to 1TiB, such as 8MiB (binary), 8MB (decimal) or a number of bytes",
      help: "how much of an arriving snapshot to write between two syncs to disk",
    }),
  fsync: z.enum(["always", "everysec", "no"]).prefault("everysec").register(aboutSettings, {
    kind: "text",
    value: "WHEN",
    takes: "always, everysec or no",
    help: "when to sync the log to disk: always, everysec or no",
  }),
  ack: z.enum(["written", "durable"]).prefault("written").register(aboutSettings, {
    kind: "text",
    value: "WHAT",
    takes: "written or durable",
    help: "the offset to send in REPLCONF ACK: written, or durable (WAIT then means on disk)",
  }),
  "snapshot-every": orOff(durationMs(secondMs, 366 * dayMs))
    .prefault("1d")
    .register(aboutSettings, {
      ...duration,
      takes: "a duration from 1s to 366d, such as 24h, or off; a bare number is in seconds",
      help: "how often to take a new snapshot, over a second link; or off",
    }),
  "snapshot-ratio": ratio(0, 1_000_000).prefault("4").register(aboutSettings, {
    kind: "number",
    value: "N",
    takes: "a number from 0 to 1000000, such as 1.5; 0 means never",
    help: "take a new snapshot once the log is N times as large as the current one (from 64KiB on; from 1GiB on where N isn't set), or a quarter of the disk's room; 0: never",
  }),
  keep: wholeNumber(0, 1_000_000).prefault("2").register(aboutSettings, {
    kind: "number",
    value: "N",
    takes: "a whole number from 0 to 1000000",
    help: "how many generations before the current one to keep at least; one that is empty or was current for moments pushes out no other",
  }),
  "keep-for": orOff(durationMs(secondMs, 3660 * dayMs))
    .prefault("1d")
    .register(aboutSettings, {
      ...duration,
      takes: "a duration from 1s to 3660d, such as 7d, or off; a bare number is in seconds",
      help: "also keep every generation that was current within this time, while the disk has room",
    }),
  "min-free": bytes(0, 1024 ** 5)
    .prefault("1GiB")
    .register(aboutSettings, {
      kind: "number",
      value: "SIZE",
      takes:
        "a size from 0 to 1024TiB, such as 10GiB (binary), 10GB (decimal) or a number of bytes",
      help: "free disk space to keep: below it old generations give way, no new snapshot over a second link is taken unless it frees more than it takes, and a warning is logged; where SIZE isn't set, at most an eighth of the room",
    }),
  timeout: durationMs(secondMs, dayMs)
    .prefault("60s")
    .register(aboutSettings, {
      ...duration,
      takes: "a duration from 1s to 1d, such as 60s or 5m; a bare number is in seconds",
      help: "how long the link may be silent before it is closed (repl-timeout)",
    }),
  "sync-timeout": durationMs(100, 3600 * secondMs)
    .prefault("5s")
    .register(aboutSettings, {
      ...duration,
      takes: "a duration from 100ms to 1h, such as 5s; a bare number is in seconds",
      help: "the time limit for connecting, and for each handshake reply",
    }),
  "ask-primary": z.enum(["yes", "no"]).prefault("yes").register(aboutSettings, {
    kind: "text",
    value: "WHETHER",
    takes: "yes or no",
    help: "whether to ask the primary with INFO: if it has a primary itself, why a resync broke, how large a full resync would be",
  }),
  "retry-max": durationMs(10, 3600 * secondMs)
    .prefault("5s")
    .register(aboutSettings, {
      ...duration,
      takes: "a duration from 10ms to 1h, such as 5s; a bare number is in seconds",
      help: "the longest pause between two attempts to connect; up to 12 times this after repeated broken syncs",
    }),
  "log-level": z.enum(["debug", "info", "warn", "error"]).prefault("info").register(aboutSettings, {
    kind: "text",
    value: "LEVEL",
    takes: "debug, info, warn or error",
    help: "the lowest level to log: debug, info, warn or error; at debug, errors come with a stack",
  }),
  "log-format": z.enum(["text", "json"]).prefault("text").register(aboutSettings, {
    kind: "text",
    value: "FORMAT",
    takes: "text or json",
    help: "the format of the log on standard error: text, or json (one object per line)",
  }),
  "no-progress": toggle().register(aboutSettings, {
    ...onOff,
    help: "don't show a progress line on a terminal",
  }),
});

/** A setting's name, as in its flag and in the file. */
export type SettingName = keyof z.infer<typeof settingsSchema>;
