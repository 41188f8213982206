import type { SettingName } from "../config/schema/settings-schema.ts";
import { aboutSource, quickOption } from "./archives/archive-source.ts";
import { aboutCluster, addressesOption } from "./clusters/cluster-help.ts";
import type { Argument, Command } from "./commands/command.ts";
import { json, logSettings } from "./common-options.ts";
import { aboutInto, intoOptions, intoSettings } from "./delivery/into-options.ts";
import { dbOption, keysOption } from "./restores/key-options.ts";
import { modeOption } from "./restores/mode-option.ts";
import { momentOptions } from "./commands/moment-options.ts";
import { keysOptions } from "./keys/keys-options.ts";
import { logOptions } from "./log/log-options.ts";

const sourceArgument: Argument = { name: "SOURCE", completes: "directory" };

/** How an archive is reached and read. */
const archiveSettings: readonly SettingName[] = [
  "archive-endpoint",
  "archive-region",
  "archive-identity",
];

/** The commands that read what is kept: a data directory, an archive, an RDB file. */
export const keptCommands: readonly Command[] = [
  {
    name: "verify",
    summary: "check an RDB file, or everything in a data directory or an archive",
    arguments: [{ name: "SOURCE|FILE.rdb", completes: "file" }],
    about: `${aboutSource}
It may be an RDB file, too. In a directory, this checks the database and, for each generation, the
snapshot, the manifest, and every command and checksum of the log up to the last durable byte. It
works while a replica runs on the directory, and on a copy. In an archive, it reads every object;
with --quick, it compares names and sizes, and how segments join. If anything is damaged, it exits
with 3 and reports the file or object, what that means, and what can still be restored.
${aboutCluster}`,
    examples: [
      { does: "everything that is kept", line: "replica verify /var/lib/replica" },
      { does: "one file", line: "replica verify dump.rdb" },
      {
        does: "an archive, by names and sizes alone",
        line: "replica verify s3://bucket/shop --quick",
      },
    ],
    takes: [...archiveSettings, ...logSettings, "no-progress"],
    options: [quickOption, json],
    load: async () => (await import("./commands/verify.ts")).verify,
  },
  {
    name: "restore",
    summary: "write files that a stock server starts from, as of any kept moment",
    arguments: [sourceArgument, { name: "TARGET", isOptional: true, completes: "directory" }],
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
    examples: [
      { does: "everything that is durable", line: "replica restore /var/lib/replica ./restored" },
      {
        does: "as of a moment, from the archive, and see that a server loads it",
        line: "replica restore s3://bucket/shop ./restored --at 2026-11-24T09:59:00Z --check",
      },
      {
        does: "bring deleted keys back into the primary that they come from",
        line: "replica restore /var/lib/replica --at now-10m --keys 'user:42:*' --into redis://10.0.0.5 --confirm 10.0.0.5:6379",
      },
    ],
    takes: [...archiveSettings, ...intoSettings, ...logSettings, "no-progress"],
    options: [
      ...momentOptions,
      {
        name: "layout",
        value: "HOW",
        completes: ["multipart", "single"],
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
        completes: "file",
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
    arguments: [sourceArgument],
    about: `Lists the generations in SOURCE: the period and the replication offsets that each can be restored to.
It works while a replica runs on the directory, and on a copy.

${aboutSource}
Without the identity of an encrypted archive, its times are unknown.
${aboutCluster}`,
    examples: [
      { does: "what can be restored", line: "replica snapshots /var/lib/replica" },
      { does: "from an archive, for a program", line: "replica snapshots s3://bucket/shop --json" },
    ],
    takes: [...archiveSettings, ...logSettings],
    options: [json],
    load: async () => (await import("./commands/snapshots.ts")).snapshots,
  },
  {
    name: "keys",
    summary: "tell what a snapshot holds: keys by type, prefix, time to live, and the biggest",
    arguments: [{ name: "SOURCE|FILE.rdb|-", completes: "file" }],
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
    examples: [
      { does: "what the last snapshot holds", line: "replica keys /var/lib/replica" },
      {
        does: "the 50 biggest sessions of a file",
        line: "replica keys dump.rdb --match 'session:*' --top 50",
      },
      {
        does: "what changed within the last hour",
        line: "replica keys /var/lib/replica --at now --compare-to now-1h",
      },
    ],
    takes: [...archiveSettings, ...logSettings, "no-progress"],
    options: [...momentOptions, ...keysOptions, json],
    load: async () => (await import("./commands/keys.ts")).keys,
  },
  {
    name: "log",
    summary: "show what was written and when: time, offset, database, command",
    arguments: [sourceArgument],
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
    examples: [
      {
        does: "what happened to a key",
        line: "replica log /var/lib/replica --key user:42 --from now-1h",
      },
      {
        does: "every FLUSHALL and FLUSHDB that is kept",
        line: "replica log /var/lib/replica --command FLUSHALL --command FLUSHDB",
      },
      {
        does: "all writes, as they come, for a program",
        line: "replica log /var/lib/replica --from now --follow --json",
      },
    ],
    takes: [...archiveSettings, ...logSettings],
    options: [...logOptions, json],
    load: async () => (await import("./commands/log.ts")).log,
  },
];
