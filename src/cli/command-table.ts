import type { SettingName } from "../config/settings-schema.ts";
import { DEFAULT_URL } from "../config/primary-url.ts";
import { aboutSource, quickOption } from "./archives/archive-source.ts";
import { aboutCluster, addressesOption } from "./clusters/cluster-help.ts";
import type { Command, CommandOption } from "./commands/command.ts";
import { aboutInto, intoOptions, intoSettings } from "./delivery/into-options.ts";
import { dbOption, keysOption } from "./restores/key-options.ts";
import { modeOption } from "./restores/mode-option.ts";
import { momentOptions } from "./commands/moment-options.ts";
import { keysOptions } from "./keys/keys-options.ts";
import { logOptions } from "./log/log-options.ts";
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
  "ask-primary",
  "psync-command",
  "sync-command",
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
      "rdb-for",
      "ask-primary",
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
with 3 and reports the file or object, what that means, and what can still be restored.
${aboutCluster}`,
    minArgs: 1,
    maxArgs: 1,
    takes: [...archiveSettings, ...logSettings, "no-progress"],
    options: [quickOption, json],
    load: async () => (await import("./commands/verify.ts")).verify,
  },
  {
    name: "restore",
    summary: "write files that a stock server starts from, as of any kept moment",
    usage: "SOURCE [TARGET]",
    about: `${aboutSource}

Restores from SOURCE into TARGET, a new or empty directory: everything that is durable, or the state
as of --at or --offset. From an archive, the generation is fetched to beside TARGET first. The
result ends with the last whole command before that moment, never inside a transaction. Everything
is verified on the way, and a restore that fails leaves nothing behind. Nobody may read the result
who couldn't read SOURCE (of an archive: nobody else), unless --mode is given. It works while a
replica runs on SOURCE. Commands that would do something else when they are loaded later are
rewritten: relative expiry times (of primaries older than Redis 7.0), and commands on hash fields
that may have expired since (of Redis 7.4 and later). Commands that not every server loads are left
out with their effect kept: those of slots that move in a cluster, and a service's own. With
--for, a snapshot that this server can't load, or a log with commands that it doesn't know, is refused
before anything is written. With --check, --digest or --serve, a stock server is started on the
result, which it only reads. If it can't load the result, the exit code is 3, and where that is known
beforehand, nothing is written.

With --keys, TARGET gets only the keys that a pattern matches. A stock server replays what the log does
to them, unless they stand in the snapshot as they were at that moment: the one of --server, or on
PATH. It holds these keys alone; where the log doesn't tell what they come from, it loads everything,
and a warning says beforehand how much memory that takes. If no key matches, the exit code is 1.

${aboutCluster} Then
TARGET, which must not exist, gets a folder for each shard, with a nodes.conf, so that servers started
on them are the whole cluster as of --at, or as of the last moment that all shards have durable: every
key in the shard that owned its slot, none twice. --check, --digest and --serve start them all; --serve
takes PORT and those after it.

${aboutInto}`,
    minArgs: 1,
    maxArgs: 2,
    takes: [...archiveSettings, ...intoSettings, ...logSettings, "no-progress"],
    options: [
      ...momentOptions,
      {
        name: "layout",
        value: "HOW",
        help: "the layout to write: multipart (Redis 7 and later), or single: one appendonly.aof (Redis 4 and later) [multipart]",
      },
      {
        name: "for",
        value: "SERVER",
        help: "the server that is to load it, such as redis-8.0 or valkey-9.1: refused where it can't",
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
      addressesOption,
      modeOption,
      keysOption,
      dbOption,
      ...intoOptions,
      json,
    ],
    load: async () => (await import("./commands/restore.ts")).restore,
  },
  {
    name: "snapshots",
    summary: "list what a data directory, an archive or a cluster's directory keeps",
    usage: "SOURCE",
    about: `Lists the generations in SOURCE: the period and the replication offsets that each can be restored to.
It works while a replica runs on the directory, and on a copy.

${aboutSource}
Without the identity of an encrypted archive, its times are unknown.
${aboutCluster}`,
    minArgs: 1,
    maxArgs: 1,
    takes: [...archiveSettings, ...logSettings],
    options: [json],
    load: async () => (await import("./commands/snapshots.ts")).snapshots,
  },
  {
    name: "keys",
    summary: "tell what a snapshot holds: keys by type, prefix, time to live, and the biggest",
    usage: "SOURCE|FILE.rdb|-",
    about: `${aboutSource}
It may be an RDB file, too, or - for one that comes over standard input.

Reads the snapshot, with no server and no data in memory: its keys, their bytes there and their
elements by type, encoding, database, time to live and prefix, and the biggest keys and prefixes. Of a
kept history it reads the last snapshot, or with --at or --offset the last one before that moment; what
the log changed since is not in it. Up to 100,000 prefixes are counted exactly; beyond, the report says
how much they may be off. A module's type is told by its name. If the snapshot is damaged, it tells
what came before that, and exits with 3. On a terminal, bars show shares; else figures are plain.

With --at and --compare-to, it tells instead which keys came, went or changed from one time to the
other, whatever their encoding, of a data directory or an archive. A stock server replays what the log
does to these keys; what is found is sorted on disk, in TMPDIR. With --json, each line is a key, the last
one a summary. The exit code is 0 whatever differs.

${aboutCluster}
Its shards are counted together, each from its own snapshot.`,
    minArgs: 1,
    maxArgs: 1,
    takes: [...archiveSettings, ...logSettings, "no-progress"],
    options: [...momentOptions, ...keysOptions, json],
    load: async () => (await import("./commands/keys.ts")).keys,
  },
  {
    name: "log",
    summary: "show what was written and when: time, offset, database, command",
    usage: "SOURCE",
    about: `${aboutSource}
It works while a replica runs on the directory, and on a copy. Logs that join are shown as one, what
two of them hold once; where something isn't kept, standard error says so.

A time is that of the first mark at which the log held the command: it came then, or since the mark
before, which is a second earlier (after a day a minute, after a week ten). The offset is what replica
restore --offset takes for the data just before the command; in JSON, "end" is that for the data with
it. The commands of a transaction take effect together, at its end, and have a line at their left; in
JSON, "transaction" has the offsets around it.

Keys are all those that a command names, to read them, too. FLUSHALL, FLUSHDB and SWAPDB match every
--key. Bytes that are no UTF-8 are {"base64":"…"} in JSON. A terminal gets long words cut, a pipe whole.

--from and --to take the times of --at, or offset:N. A number alone is what of both is kept. --follow
shows only what is durable, so that nothing is taken back. After a restart with --from offset:N, N being
the last "end", each command comes at least once, and in order.

The log's checksums aren't compared: replica verify does that. Of a cluster, name
one shard: DIR/shards/0001.`,
    minArgs: 1,
    maxArgs: 1,
    takes: [...archiveSettings, ...logSettings],
    options: [...logOptions, json],
    load: async () => (await import("./commands/log.ts")).log,
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
