import type * as z from "zod/mini";
import { archiveSchema } from "./archive-schema.ts";
import { clusterSchema } from "./cluster-schema.ts";
import type { Setting } from "./setting.ts";
import {
  bytes,
  commandNames,
  durationMs,
  host,
  hostAndPort,
  hostNames,
  oneOf,
  orOff,
  path,
  ratio,
  snapshotServer,
  text,
  toggle,
  wholeNumber,
} from "./setting-values.ts";

const secondMs = 1000;
const dayMs = 24 * 60 * 60 * secondMs;
const file = { kind: "text", value: "FILE", takes: "the path of a file" } as const;
const onOff = { kind: "switch", value: "", takes: "true, 1, yes, false, 0 or no" } as const;
const port = { kind: "number", value: "PORT" } as const;
const commandName = {
  kind: "list",
  value: "NAME",
  takes: "a word such as xhma21psync, HOST:PORT=NAME, or several with commas",
} as const;
const duration = { kind: "number", value: "TIME" } as const;

/**
 * Every setting: its name, default, bounds, unit and help. A value comes in as text, from whichever
 * source, and comes out in the unit that `Settings` names.
 */
export const settingsSchema = {
  dir: {
    kind: "text",
    value: "DIR",
    takes: "the path of a directory",
    help: "the data directory",
    default: "./replica-data",
    schema: path(),
  },
  adopt: {
    ...onOff,
    help: "follow URL even into a data directory that holds the history of another primary; without it that is refused",
    default: "false",
    schema: toggle(),
  },
  port: {
    ...port,
    takes: "a whole number from 0 to 65535; 0 picks a free one",
    help: "the port to serve on, and to announce to the primary; 0 picks a free one",
    default: "6380",
    schema: wholeNumber(0, 65535),
  },
  bind: {
    kind: "text",
    value: "ADDR",
    takes: "one address, such as 127.0.0.1, ::1 or 0.0.0.0",
    help: "the address to serve on",
    default: "127.0.0.1",
    schema: host(),
  },
  "announce-ip": {
    kind: "text",
    value: "ADDR",
    takes: "an address or a host name",
    help: "the address that the primary reports for this replica (NAT, containers)",
    unset: "the bound address",
    schema: host(),
  },
  "announce-port": {
    ...port,
    takes: "a whole number from 1 to 65535",
    help: "the port that the primary reports for this replica (NAT, containers)",
    unset: "the bound port",
    schema: wholeNumber(1, 65535),
  },
  announce: {
    kind: "text",
    value: "WHETHER",
    takes: "yes or no",
    help: "whether Sentinel hands this replica to clients, whose reads it refuses; it is repointed either way (replica-announced)",
    default: "no",
    schema: oneOf("yes", "no"),
  },
  http: {
    kind: "text",
    value: "ADDR:PORT",
    takes: "an address and a port, such as 127.0.0.1:6395 or [::1]:6395, or off",
    help: "serve metrics, health checks and a status page over HTTP; no password is required",
    unset: "off",
    schema: orOff(hostAndPort()),
  },
  "http-host": {
    kind: "list",
    value: "NAME",
    takes: "a host name without a port, or several with commas",
    help: "a name, beside localhost and addresses, by which --http is asked; may be given more than once",
    unset: "none",
    schema: hostNames(),
  },
  "ready-lag": {
    ...duration,
    takes: "a duration from 1s to 1d, such as 10s; a bare number is in seconds",
    help: "how long a received byte may stay unsynced (with --fsync no: unwritten) before the replica counts as not ready",
    default: "10s",
    schema: durationMs(secondMs, dayMs),
  },
  username: {
    kind: "text",
    value: "NAME",
    takes: "a user name",
    help: "the user name for the primary; one in the URL takes precedence",
    unset: "none",
    schema: text(1024),
  },
  "password-file": {
    ...file,
    help: "the file that holds the primary's password; one in the URL takes precedence, and REPLICA_PASSWORD comes last",
    unset: "none",
    schema: path(),
  },
  "sentinel-username": {
    kind: "text",
    value: "NAME",
    takes: "a user name",
    help: "the user name for the Sentinels themselves; needs --sentinel-password-file",
    unset: "none",
    schema: text(1024),
  },
  "sentinel-password-file": {
    ...file,
    help: "the file that holds the Sentinels' own password; without it, no password is sent to them",
    unset: "none",
    schema: path(),
  },
  "requirepass-file": {
    ...file,
    help: "the file that holds the password for clients of this port",
    unset: "none",
    schema: path(),
  },
  unprotected: {
    ...onOff,
    help: "serve beyond loopback without a password; and let clients that need none change things though the primary has a password",
    default: "false",
    schema: toggle(),
  },
  "tls-ca": {
    ...file,
    help: "the CA certificates (PEM) to verify the primary's certificate with",
    unset: "system CAs",
    schema: path(),
  },
  "tls-cert": {
    ...file,
    help: "the client certificate (PEM) to present to the primary; needs --tls-key",
    unset: "none",
    schema: path(),
  },
  "tls-key": {
    ...file,
    help: "the private key (PEM) of --tls-cert",
    unset: "none",
    schema: path(),
  },
  "tls-server-name": {
    kind: "text",
    value: "NAME",
    takes: "a host name",
    help: "the host name to request, and to verify in the primary's certificate",
    unset: "the URL's host",
    schema: text(255),
  },
  "tls-insecure": {
    ...onOff,
    help: "don't verify the primary's certificate",
    default: "false",
    schema: toggle(),
  },
  ...clusterSchema,
  io: {
    kind: "text",
    value: "HOW",
    takes: "auto, buffered or direct",
    help: "write snapshots through the page cache (buffered) or past it (direct); auto: direct where the file system allows it, unless the disk was waited for and buffered was faster",
    default: "auto",
    schema: oneOf("auto", "buffered", "direct"),
  },
  "rdb-sync-bytes": {
    kind: "number",
    value: "SIZE",
    takes: "a size from 4096 to 1TiB, such as 8MiB (binary), 8MB (decimal) or a number of bytes",
    help: "how much of an arriving snapshot to write between two syncs to disk",
    default: "8MiB",
    schema: bytes(4096, 1024 ** 4),
  },
  "rdb-for": {
    kind: "text",
    value: "VERSION",
    takes: "a server from 7.2 on, such as valkey-8.1, redis-7.2, or Valkey's version alone: 8.1",
    help: "have Valkey (9.0 and later) write snapshots that this older server loads; others write their own form whatever is asked",
    unset: "the newest form",
    schema: snapshotServer(),
  },
  fsync: {
    kind: "text",
    value: "WHEN",
    takes: "always, everysec or no",
    help: "when to sync the log to disk: always, everysec or no",
    default: "everysec",
    schema: oneOf("always", "everysec", "no"),
  },
  ack: {
    kind: "text",
    value: "WHAT",
    takes: "written, durable or archived",
    help: "the offset to send in REPLCONF ACK: written, durable (WAIT then means on disk) or archived (in the --archive)",
    default: "written",
    schema: oneOf("written", "durable", "archived"),
  },
  "snapshot-every": {
    ...duration,
    takes: "a duration from 1s to 366d, such as 24h, or off; a bare number is in seconds",
    help: "how often to take a new snapshot, over a second link; or off",
    default: "1d",
    schema: orOff(durationMs(secondMs, 366 * dayMs)),
  },
  "snapshot-ratio": {
    kind: "number",
    value: "N",
    takes: "a number from 0 to 1000000, such as 1.5; 0 means never",
    help: "take a new snapshot once the log is N times as large as the current one (from 64KiB on; from 1GiB on where N isn't set), or a quarter of the disk's room; 0: never",
    default: "4",
    schema: ratio(0, 1_000_000),
  },
  keep: {
    kind: "number",
    value: "N",
    takes: "a whole number from 0 to 1000000",
    help: "how many generations before the current one to keep at least; one that is empty or was current for moments pushes out no other",
    default: "2",
    schema: wholeNumber(0, 1_000_000),
  },
  "keep-for": {
    ...duration,
    takes: "a duration from 1s to 3660d, such as 7d, or off; a bare number is in seconds",
    help: "also keep every generation that was current within this time, while the disk has room",
    default: "1d",
    schema: orOff(durationMs(secondMs, 3660 * dayMs)),
  },
  "min-free": {
    kind: "number",
    value: "SIZE",
    takes: "a size from 0 to 1024TiB, such as 10GiB (binary), 10GB (decimal) or a number of bytes",
    help: "free disk space to keep: below it old generations give way, no new snapshot over a second link is taken unless it frees more than it takes, and a warning is logged; where SIZE isn't set, at most an eighth of the room",
    default: "1GiB",
    schema: bytes(0, 1024 ** 5),
  },
  ...archiveSchema,
  timeout: {
    ...duration,
    takes: "a duration from 1s to 1d, such as 60s or 5m; a bare number is in seconds",
    help: "how long the link may be silent before it is closed (repl-timeout)",
    default: "60s",
    schema: durationMs(secondMs, dayMs),
  },
  "sync-timeout": {
    ...duration,
    takes: "a duration from 100ms to 1h, such as 5s; a bare number is in seconds",
    help: "the time limit for connecting, and for each handshake reply",
    default: "5s",
    schema: durationMs(100, 3600 * secondMs),
  },
  "sync-links": {
    kind: "text",
    value: "N",
    takes: "1 or 2",
    help: "how many links a full sync may take: with 2, the snapshot comes on one of its own where the primary can do that (Redis and Valkey from 8.0), and the stream beside it",
    default: "2",
    schema: oneOf("1", "2"),
  },
  "ask-primary": {
    kind: "text",
    value: "WHETHER",
    takes: "yes or no",
    help: "whether to ask the primary with INFO: if it has a primary itself, why a resync broke, how large a full resync would be",
    default: "yes",
    schema: oneOf("yes", "no"),
  },
  "psync-command": {
    ...commandName,
    help: "what a managed service calls PSYNC; HOST:PORT=NAME where each node has a name of its own; may be given more than once",
    unset: "PSYNC",
    schema: commandNames(),
  },
  "sync-command": {
    ...commandName,
    help: "the same for SYNC, which is sent to a primary that doesn't know PSYNC",
    unset: "SYNC",
    schema: commandNames(),
  },
  "retry-max": {
    ...duration,
    takes: "a duration from 10ms to 1h, such as 5s; a bare number is in seconds",
    help: "the longest pause between two attempts to connect; up to 12 times this after repeated broken syncs",
    default: "5s",
    schema: durationMs(10, 3600 * secondMs),
  },
  "log-level": {
    kind: "text",
    value: "LEVEL",
    takes: "debug, info, warn or error",
    help: "the lowest level to log: debug, info, warn or error; at debug, errors come with a stack",
    default: "info",
    schema: oneOf("debug", "info", "warn", "error"),
  },
  "log-format": {
    kind: "text",
    value: "FORMAT",
    takes: "text or json",
    help: "the format of the log on standard error: text, or json (one object per line)",
    default: "text",
    schema: oneOf("text", "json"),
  },
  "no-progress": {
    ...onOff,
    help: "don't show a progress line on a terminal",
    default: "false",
    schema: toggle(),
  },
} satisfies Record<string, Setting>;

type Schema = typeof settingsSchema;

/** A setting's name, as in its flag and in the file. */
export type SettingName = keyof Schema;

/** The value of each setting; undefined where none is given and there is no default, or it is off. */
export type SettingValues = {
  readonly [Name in SettingName]:
    | z.output<Schema[Name]["schema"]>
    | (Schema[Name] extends { readonly default: string } ? never : undefined);
};
