import type { SettingName } from "../config/schema/settings-schema.ts";
import { DEFAULT_URL } from "../config/primary-url.ts";
import type { Command, CommandForm } from "./commands/command.ts";
import { json, logSettings } from "./common-options.ts";
import { shells } from "./completion/shells.ts";
import { keptCommands } from "./kept-commands.ts";
import { modeOption } from "./restores/mode-option.ts";
import { momentOptions } from "./commands/moment-options.ts";
import { settingNames } from "../config/schema/about-settings.ts";

/** How a server over TLS is verified, and what it is shown. */
const clientTls: readonly SettingName[] = [
  "tls-ca",
  "tls-cert",
  "tls-key",
  "tls-server-name",
  "tls-insecure",
];

/** What the replica's own port is served with. */
const servedTls: readonly SettingName[] = ["port-tls-cert", "port-tls-key", "port-tls-ca"];

const primarySettings: readonly SettingName[] = [
  "username",
  "password-file",
  "sentinel-username",
  "sentinel-password-file",
  ...clientTls,
  "timeout",
  "sync-timeout",
  "ask-primary",
  "psync-command",
  "sync-command",
];

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
    arguments: [{ name: "URL", isOptional: true }],
    about: `${aboutUrl}

With --offline, no primary is followed: the replica serves what DIR keeps, to seed new servers
(REPLICAOF to its port, then REPLICAOF NO ONE). With --at, --offset or --generation, they get the
data as of that moment: up to the last whole command before it, never part of a transaction. They
stay attached, and continue in a history of their own. What DIR keeps does not change.
With the URL of an archive in place of URL, or with --archive where DIR keeps nothing, the moment is
fetched from there to beside DIR, served, and removed at the end; --generation takes the beginning of
a folder's name. Nothing is written to the archive.`,
    examples: [
      { does: "the primary on this machine, with the defaults", line: "replica" },
      {
        does: "another one, with metrics, and its password from a file",
        line: "replica redis://10.0.0.5 --password-file primary.pass --http 127.0.0.1:6395",
      },
      {
        does: "whichever primary the Sentinels name",
        line: "replica redis+sentinel://10.0.0.5,10.0.0.6/mymaster --dir /var/lib/replica",
      },
      {
        does: "every shard of a cluster, and an archive of all",
        line: "replica redis+cluster://10.0.0.5 --archive s3://bucket/shop",
      },
      {
        does: "seed new servers with what is kept, as of ten minutes ago",
        line: "replica follow --offline --at now-10m --dir /var/lib/replica",
      },
    ],
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
    arguments: [
      { name: "URL", isOptional: true },
      { name: "OUT", completes: "file" },
    ],
    about: `${aboutUrl}

A file or an object that is there is replaced only with --force, and only once the snapshot is whole.
Who may read the file: whoever could read the one that it replaces, else its owner alone, unless
--mode is given. A snapshot is binary: to a terminal, - is refused.

With s3://bucket/key as OUT, the snapshot is uploaded in parts as it comes, without a local file. It
becomes an object only once its checksum holds. The keys come from where every S3 tool takes them
(environment, profiles, roles).`,
    examples: [
      { does: "to a file that isn't there yet", line: "replica backup redis://10.0.0.5 dump.rdb" },
      {
        does: "the same file every night",
        line: "replica backup redis://10.0.0.5 /backup/dump.rdb --force",
      },
      {
        does: "compressed, without a file in between",
        line: "replica backup redis://10.0.0.5 - | zstd > dump.rdb.zst",
      },
      { does: "to an object store", line: "replica backup redis://10.0.0.5 s3://bucket/dump.rdb" },
    ],
    takes: [
      ...primarySettings,
      "io",
      "rdb-sync-bytes",
      "rdb-for",
      "archive-endpoint",
      "archive-region",
      ...logSettings,
      "no-progress",
    ],
    options: [
      modeOption,
      { name: "force", value: "", help: "replace a file or an object that is there" },
    ],
    load: async () => (await import("./commands/backup.ts")).backup,
  },
  ...keptCommands,
  {
    name: "status",
    summary: "show the state of a running replica",
    arguments: [{ name: "HOST:PORT", isOptional: true }],
    about: `Asks the replica at HOST:PORT, by default at --bind and --port; a port alone is one of this
machine. Exits with 0 if the replica is ready: it follows a primary that is supplied with data itself,
everything received is durable within its own --ready-lag, and archived within its --ready-archive-lag,
and the disk is not about to be full; with --offline, it serves what is kept. Exits with 1 if it is not
ready or does not answer. With --watch, it asks every second until stopped, even while the replica is
away, and then exits with 0.

With --port-tls-cert or rediss://HOST:PORT it asks over TLS: what answers must show the
certificate in --port-tls-cert, or one that is valid by --tls-ca for HOST (or
--tls-server-name). Where --port-tls-ca asks for a certificate, it shows --tls-cert, or else
--port-tls-cert.`,
    examples: [
      { does: "the one on this machine", line: "replica status" },
      { does: "another one, every second", line: "replica status 10.0.0.7:6380 --watch" },
    ],
    takes: ["port", "bind", "requirepass-file", ...servedTls, ...clientTls, ...logSettings],
    options: [json, { name: "watch", value: "", help: "repeat every second until stopped" }],
    load: async () => (await import("./commands/status.ts")).status,
  },
  {
    name: "demo",
    summary: "follow an embedded primary for a few seconds; needs no Redis",
    arguments: [],
    about: `Starts an embedded primary with made-up data and live writes, and follows it into DIR/data: a full
resync, the live stream, a partial resync, a backup and a clean stop. DIR/archive is its archive; the
data directory is removed, and restored from there alone.`,
    examples: [
      { does: "in a new folder below TMPDIR", line: "replica demo" },
      { does: "in this one", line: "replica demo --dir ./demo" },
    ],
    takes: ["dir", ...logSettings, "no-progress"],
    options: [],
    load: async () => (await import("./commands/demo.ts")).demo,
  },
  {
    name: "completion",
    summary: "print the script that completes this command line in a shell",
    arguments: [{ name: "SHELL", completes: shells }],
    about: `SHELL is ${shells.join(", ")}. The script completes commands, flags, files, directories, and the
values of flags that take one of a few words. It runs nothing of replica; after an update, make it anew.`,
    examples: [
      {
        does: "bash, for this user, from the next shell on",
        line: "replica completion bash > ~/.local/share/bash-completion/completions/replica",
      },
      { does: "zsh, in a folder of $fpath", line: "replica completion zsh > ~/.zfunc/_replica" },
      { does: "fish", line: "replica completion fish > ~/.config/fish/completions/replica.fish" },
    ],
    takes: [],
    options: [],
    load: async () => {
      const { completion } = await import("./completion/completion.ts");
      return completion(commands, questions);
    },
  },
  {
    name: "man",
    summary: "print the manual page",
    arguments: [],
    about: "The page is in roff, for man(1), section 1.",
    examples: [
      { does: "read it", line: "replica man | man -l -" },
      { does: "install it", line: "replica man > /usr/local/share/man/man1/replica.1" },
    ],
    takes: [],
    options: [],
    load: async () => (await import("./manual/man-page.ts")).man(commands, questions),
  },
];

/** What is answered beside the commands; neither takes a setting. */
export const questions: readonly CommandForm[] = [
  {
    name: "help",
    summary: "show a command's arguments, options, settings and examples",
    arguments: [{ name: "COMMAND", isOptional: true, completes: commands.map(({ name }) => name) }],
  },
  { name: "version", summary: "show the version", arguments: [] },
];

/** Finds a command by its name. */
export function findCommand(name: string): Command | undefined {
  return commands.find((command) => command.name === name);
}
