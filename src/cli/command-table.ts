import type { SettingName } from "../config/settings-schema.ts";
import { DEFAULT_URL } from "../config/primary-url.ts";
import type { Command, CommandOption } from "./commands/command.ts";
import { wantedOptions } from "./commands/wanted.ts";
import { settingNames } from "../config/about-settings.ts";

const logSettings: readonly SettingName[] = ["log-level", "log-format"];

const primarySettings: readonly SettingName[] = [
  "username",
  "password-file",
  "sentinel-username",
  "sentinel-password-file",
  "tls-ca",
  "tls-cert",
  "tls-key",
  "tls-server-name",
  "tls-insecure",
  "timeout",
  "sync-timeout",
];

const json: CommandOption = { name: "json", value: "", help: "print JSON" };

const aboutUrl = `URL is redis://[user[:password]@]host[:port], rediss://… (TLS) or unix:///path.sock; an IPv6
address stands in brackets. The default is ${DEFAULT_URL}. Or it names sentinels, and the name
under which they watch the primary: redis+sentinel://[user[:password]@]host[:port],…/name (their port is
26379 unless told), rediss+sentinel://… (TLS to them and to the primary). They are asked for the primary
before each attempt to connect; a password of their own comes from --sentinel-password-file.

The primary's password comes from the URL, else from --password-file, else from the variable
REPLICA_PASSWORD. A password in the URL is taken out of this process's argument list at once, where the
system allows it (Linux); what started it (a shell's history, bun run) still shows it: better use
--password-file.`;

/** Every command, in the order of help. */
export const commands: readonly Command[] = [
  {
    name: "follow",
    summary: "follow a primary until stopped; the command when none is named",
    usage: "[URL]",
    about: `${aboutUrl}

With --offline no primary is followed: it serves what DIR keeps, so that new servers are seeded from it
(REPLICAOF to its port, then REPLICAOF NO ONE). With --at, --offset or --generation they get it as it was
then: up to the last whole command before that, never inside a transaction. They stay attached, in a history
of their own from there on. Nothing that is kept changes.`,
    minArgs: 0,
    maxArgs: 1,
    takes: settingNames,
    options: [
      { name: "offline", value: "", help: "follow nobody: serve what is kept to other replicas" },
      ...wantedOptions,
    ],
    load: async () => (await import("./commands/follow.ts")).follow,
  },
  {
    name: "backup",
    summary: "one snapshot to the file OUT (-: standard output), then leave",
    usage: "[URL] OUT",
    about: aboutUrl,
    minArgs: 1,
    maxArgs: 2,
    takes: [...primarySettings, "io", "rdb-sync-bytes", ...logSettings, "no-progress"],
    options: [],
    load: async () => (await import("./commands/backup.ts")).backup,
  },
  {
    name: "verify",
    summary: "check an RDB file, or everything in a data directory",
    usage: "PATH",
    about: `PATH is an RDB file, or a data directory: then each generation's snapshot and manifest, every command
and every checksum of its log up to the last durable byte, and the database. Works while a replica runs
on it, and on a copy. Ends with 3 where something is damaged, and says which file, which byte, what it
means, and what can still be restored.`,
    minArgs: 1,
    maxArgs: 1,
    takes: [...logSettings, "no-progress"],
    options: [json],
    load: async () => (await import("./commands/verify.ts")).verify,
  },
  {
    name: "restore",
    summary: "write what a stock server starts from, as of any kept moment",
    usage: "DIR TARGET",
    about: `Restores from the data directory DIR into TARGET, a folder that is new or empty: all that is durable, or as
of --at or --offset. It ends with the last whole command before that, never inside a transaction. What it
writes is checked on the way; a restore that breaks off leaves nothing. Works while a replica runs on DIR.
With primaries before Redis 7.0, expiries that count from now become the moments that they meant. A server
that is booted on the result reads it, and never writes to it; one that doesn't start ends this with 3.`,
    minArgs: 2,
    maxArgs: 2,
    takes: [...logSettings, "no-progress"],
    options: [
      ...wantedOptions,
      {
        name: "layout",
        value: "HOW",
        help: "multipart (Redis 7 and later), or single: one appendonly.aof [multipart]",
      },
      {
        name: "check",
        value: "",
        help: "boot a stock server on the result, and tell its keys per database",
      },
      { name: "digest", value: "", help: "the same, and DEBUG DIGEST of all data" },
      {
        name: "server",
        value: "PATH",
        help: "that server, else redis-server or valkey-server on PATH",
      },
      {
        name: "serve",
        value: "PORT",
        help: "then serve the result at 127.0.0.1:PORT, to be read only, until stopped; 0 picks one",
      },
      json,
    ],
    load: async () => (await import("./commands/restore.ts")).restore,
  },
  {
    name: "snapshots",
    summary: "list what a data directory keeps",
    usage: "DIR",
    about: `Lists the generations of the data directory DIR: from and until when, and between which replication
offsets, each can be restored. Works while a replica runs on it, and on a copy.`,
    minArgs: 1,
    maxArgs: 1,
    takes: logSettings,
    options: [json],
    load: async () => (await import("./commands/snapshots.ts")).snapshots,
  },
  {
    name: "status",
    summary: "ask a running replica how it is",
    usage: "[HOST:PORT]",
    about: `Asks the replica at HOST:PORT, else at --bind and --port. Exits with 0 when it is ready (it follows its
primary, and what came is durable within its own --ready-lag; with --offline: it serves what is kept), and
with 1 when it isn't or doesn't answer. With --watch it asks each second until it is stopped, a replica that
is away too, and then exits with 0.`,
    minArgs: 0,
    maxArgs: 1,
    takes: ["port", "bind", "requirepass-file", ...logSettings],
    options: [json, { name: "watch", value: "", help: "go on, anew each second" }],
    load: async () => (await import("./commands/status.ts")).status,
  },
  {
    name: "demo",
    summary: "no Redis needed: follow an embedded primary for a few seconds",
    usage: "",
    about:
      "Starts a primary with made-up data and live writes, and follows it with every part working.",
    minArgs: 0,
    maxArgs: 0,
    takes: ["dir", ...logSettings, "no-progress"],
    options: [],
    load: async () => (await import("./commands/demo.ts")).demo,
  },
];

/** The command of that name. */
export function findCommand(name: string): Command | undefined {
  return commands.find((command) => command.name === name);
}
