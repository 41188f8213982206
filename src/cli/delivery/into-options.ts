import type { SettingName } from "../../config/schema/settings-schema.ts";

/** The options that bring keys into a running server. */
export const intoOptions = [
  {
    name: "into",
    value: "URL",
    help: "with --keys: bring these keys into this running server or cluster, in place of TARGET",
  },
  {
    name: "into-password-file",
    value: "FILE",
    completes: "file",
    help: "the file that holds the password for --into; one in the URL takes precedence",
  },
  {
    name: "replace",
    value: "",
    help: "with --into: replace keys that exist there; without it they stay, and are counted",
  },
  {
    name: "confirm",
    value: "HOST:PORT",
    help: "with --into: the server's address once more, where it is the primary that is followed",
  },
  {
    name: "dry-run",
    value: "",
    help: "with --into: list the keys with sizes and times to live, and whether they exist there; write nothing",
  },
] as const;

/** What help says of it. */
export const aboutInto = `With --keys and --into URL, nothing is written to a folder: these keys, as of that moment, are brought
into a running server, or into a cluster: redis://[user[:password]@]host[:port], rediss://…,
unix:///path.sock, redis+sentinel://… or redis+cluster://…. Values come back to the byte; times to live
are moments, and what has expired since is left out. What exists there stays and is counted, unless
--replace is given. The only command that writes is RESTORE. Before the first one, the server is asked
whether it can load the keys; if it can't, nothing is written. A broken link goes on where it was, for
up to --timeout without an answer. --dry-run lists the keys and writes nothing. With --json, each key
that isn't restored (with --dry-run: every key) is an object in a line of its own, and the last line is
the result. To bring deleted keys back into the primary that SOURCE comes from, name it once more with --confirm.
With --replace it also overwrites what was changed there since; on a terminal it is asked for by name.`;

/** The settings by which that server is reached. */
export const intoSettings: readonly SettingName[] = [
  "sentinel-username",
  "sentinel-password-file",
  "tls-ca",
  "tls-cert",
  "tls-key",
  "tls-server-name",
  "tls-insecure",
  "timeout",
  "sync-timeout",
  "retry-max",
];
