import type { SettingName } from "../config/settings-schema.ts";
import { DEFAULT_URL } from "../config/primary-url.ts";
import { aboutSource, quickOption } from "./archives/archive-source.ts";
import type { Command, CommandOption } from "./commands/command.ts";
import { modeOption } from "./commands/mode-option.ts";
import { momentOptions } from "./commands/moment-options.ts";
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

/** How an archive is reached and read. */
const archiveSettings: readonly SettingName[] = [
  "archive-endpoint",
  "archive-region",
  "archive-identity",
];

const json: CommandOption = { name: "json", value: "", help: "print JSON" };

const aboutUrl = `URL is redis://[user[:password]@]host[:port], rediss://… (TLS) or unix:///path.sock, with an IPv6
address in brackets; the default is ${DEFAULT_URL}. It can also list Sentinels, and the name of
the master that they watch: redis+sentinel://[user[:password]@]host[:port],…/name, or
rediss+sentinel://… (TLS to the Sentinels and to the primary). Their default port is 26379. They are
asked for the primary before every attempt to connect. Their own password comes from
--sentinel-password-file; the one in the URL is the primary's.

The primary's password comes from the URL, then --password-file, then the variable REPLICA_PASSWORD.
Password files are read anew at each attempt, so that a rotated password needs no restart.
On Linux, a password in the URL is removed from this process's argument list as soon as it runs, but
until then every user of the machine can read it, and whatever started the process (a shell's history,
bun run) may still show it: prefer --password-file.`;

/** Every command, in the order of help. */
export const commands: readonly Command[] = [
  {
    name: "follow",
    summary: "follow a primary until stopped (the default command)",
    usage: "[URL]",
    about: `${aboutUrl}

With --offline, no primary is followed: the replica serves what DIR keeps, to seed new servers
(REPLICAOF to its port, then REPLICAOF NO ONE). With --at, --offset or --generation, they get the
data as of that moment: up to the last whole command before it, never part of a transaction. They
stay attached, and continue in a history of their own. What DIR keeps does not change.
With the URL of an archive in place of URL, or with --archive where DIR keeps nothing, the moment is
fetched from there to beside DIR, served, and removed at the end; --generation takes the beginning of
a folder's name. Nothing is written to the archive.`,
    minArgs: 0,
    maxArgs: 1,
    takes: settingNames,
    options: [
      {
        name: "offline",
        value: "",
        help: "follow no primary; serve what is kept to other replicas",
      },
      ...momentOptions,
    ],
    load: async () => (await import("./commands/follow.ts")).follow,
  },
  {
    name: "backup",
    summary: "write one snapshot to the file or s3:// object OUT (-: standard output) and exit",
    usage: "[URL] OUT",
    about: `${aboutUrl}

Who may read the file: whoever could read an earlier one of that name, else its owner alone, unless
--mode is given.

With s3://bucket/key as OUT, the snapshot is uploaded in parts as it comes, without a local file. It
becomes an object only once its checksum holds. The keys come from where every S3 tool takes them
(environment, profiles, roles). An object that is there is replaced only with --force.`,
    minArgs: 1,
    maxArgs: 2,
    takes: [
      ...primarySettings,
      "io",
      "rdb-sync-bytes",
      "archive-endpoint",
      "archive-region",
      ...logSettings,
      "no-progress",
    ],
    options: [modeOption, { name: "force", value: "", help: "replace an object that is there" }],
    load: async () => (await import("./commands/backup.ts")).backup,
  },
  {
    name: "verify",
    summary: "check an RDB file, or everything in a data directory or an archive",
    usage: "SOURCE",
    about: `${aboutSource}
It may be an RDB file, too. In a directory, this checks the database and, for each generation, the
snapshot, the manifest, and every command and checksum of the log up to the last durable byte. It
works while a replica runs on the directory, and on a copy. In an archive, it reads every object;
with --quick, it compares names and sizes, and how segments join. If anything is damaged, it exits
with 3 and reports the file or object, what that means, and what can still be restored.`,
    minArgs: 1,
    maxArgs: 1,
    takes: [...archiveSettings, ...logSettings, "no-progress"],
    options: [quickOption, json],
    load: async () => (await import("./commands/verify.ts")).verify,
  },
  {
    name: "restore",
    summary: "write files that a stock server starts from, as of any kept moment",
    usage: "SOURCE TARGET",
    about: `${aboutSource}

Restores from SOURCE into TARGET, a new or empty directory: everything that is durable, or the state
as of --at or --offset. From an archive, the generation is fetched to beside TARGET first. The
result ends with the last whole command before that moment, never inside a transaction. Everything
is verified on the way, and a restore that fails leaves nothing behind. Nobody may read the result
who couldn't read SOURCE (of an archive: nobody else), unless --mode is given. It works while a
replica runs on SOURCE. Commands that would do something else when they are loaded later are
rewritten: relative expiry times (of primaries older than Redis 7.0), and commands on hash fields
that may have expired since (of Redis 7.4 and later). With --check, --digest or --serve, a stock
server is started on the result, which it only reads. If it can't load the result, the exit code is
3.`,
    minArgs: 2,
    maxArgs: 2,
    takes: [...archiveSettings, ...logSettings, "no-progress"],
    options: [
      ...momentOptions,
      {
        name: "layout",
        value: "HOW",
        help: "the layout to write: multipart (Redis 7 and later), or single: one appendonly.aof (Redis 4 and later) [multipart]",
      },
      {
        name: "check",
        value: "",
        help: "start a stock server on the result and report its keys per database",
      },
      { name: "digest", value: "", help: "like --check, and report DEBUG DIGEST of all data" },
      {
        name: "server",
        value: "PATH",
        help: "the stock server to start [redis-server or valkey-server on PATH]",
      },
      {
        name: "serve",
        value: "PORT",
        help: "then serve the result read-only at 127.0.0.1:PORT until stopped; 0 picks a free port",
      },
      modeOption,
      json,
    ],
    load: async () => (await import("./commands/restore.ts")).restore,
  },
  {
    name: "snapshots",
    summary: "list what a data directory or an archive keeps",
    usage: "SOURCE",
    about: `Lists the generations in SOURCE: the period and the replication offsets that each can be restored to.
It works while a replica runs on the directory, and on a copy.

${aboutSource}
Without the identity of an encrypted archive, its times are unknown.`,
    minArgs: 1,
    maxArgs: 1,
    takes: [...archiveSettings, ...logSettings],
    options: [json],
    load: async () => (await import("./commands/snapshots.ts")).snapshots,
  },
  {
    name: "status",
    summary: "show the state of a running replica",
    usage: "[HOST:PORT]",
    about: `Asks the replica at HOST:PORT, by default at --bind and --port; a port alone is one of this
machine. Exits with 0 if the replica is ready: it follows a primary that is supplied with data itself,
everything received is durable within its own --ready-lag, and archived within its --ready-archive-lag,
and the disk is not about to be full; with --offline, it serves what is kept. Exits with 1 if it is not
ready or does not answer. With --watch, it asks every second until stopped, even while the replica is
away, and then exits with 0.`,
    minArgs: 0,
    maxArgs: 1,
    takes: ["port", "bind", "requirepass-file", ...logSettings],
    options: [json, { name: "watch", value: "", help: "repeat every second until stopped" }],
    load: async () => (await import("./commands/status.ts")).status,
  },
  {
    name: "demo",
    summary: "follow an embedded primary for a few seconds; needs no Redis",
    usage: "",
    about: `Starts an embedded primary with made-up data and live writes, and follows it into DIR/data: a full
resync, the live stream, a partial resync, a backup and a clean stop. DIR/archive is its archive; the
data directory is removed, and restored from there alone.`,
    minArgs: 0,
    maxArgs: 0,
    takes: ["dir", ...logSettings, "no-progress"],
    options: [],
    load: async () => (await import("./commands/demo.ts")).demo,
  },
];

/** Finds a command by its name. */
export function findCommand(name: string): Command | undefined {
  return commands.find((command) => command.name === name);
}
