import type * as z from "zod/mini";

/** The groups of settings by name, in the order of help. */
export const settingGroups = {
  essential: {
    title: "Essential",
    about: "where the data lies, who may ask, and how to log in to the primary",
    example: {
      does: "follow a primary, with metrics",
      line: "replica redis://10.0.0.5 --dir /var/lib/replica --http 127.0.0.1:6395",
    },
  },
  storage: {
    title: "Storage",
    about: "when data is on disk, and how much of the past is kept",
    example: {
      does: "two snapshots a day, a week of history, and WAIT means on disk",
      line: "replica redis://10.0.0.5 --snapshot-every 12h --keep-for 7d --ack durable",
    },
  },
  archive: {
    title: "Archive",
    about: "a copy of it all in an object store",
    example: {
      does: "a copy in a bucket within seconds, and a month of history there",
      line: "replica redis://10.0.0.5 --archive s3://bucket/shop --archive-keep-for 30d",
    },
  },
  security: {
    title: "Security",
    about: "TLS, the Sentinels' login, and who may use the replica's own port",
    example: {
      does: "TLS to the primary, and a password for clients of this port",
      line: "replica rediss://10.0.0.5 --tls-ca ca.pem --requirepass-file port.pass",
    },
  },
  tuning: {
    title: "Tuning",
    about: "limits, networks, clusters and managed services; the defaults suit most",
    example: {
      does: "every shard of a cluster, from replicas, over a slow network",
      line: "replica redis+cluster://10.0.0.5 --cluster-read-from replica --timeout 2m",
    },
  },
} as const;

/** The group of a setting: what it is about, for whoever reads all of them. */
export type SettingGroup = keyof typeof settingGroups;

/** What the shell offers for a value or an argument that has no words of its own: paths. */
export type PathKind = "file" | "directory";

/** What help, docs/SETTINGS.md, completion and errors say about a setting. */
export interface AboutSetting {
  readonly group: SettingGroup;
  /**
   * A switch takes no value on the command line; a number needs no quotes in the settings file. A list has commas
   * between its values; its flag may be given again for each, and in the file it may be an array.
   */
  readonly kind: "text" | "number" | "switch" | "list";
  /** The value's placeholder in help; empty for a switch. */
  readonly value: string;
  /** The values it takes, to complete "it takes …". */
  readonly takes: string;
  /** What it does, in one line. */
  readonly help: string;
  /** What it is if it isn't given, as a person would write it. */
  readonly default?: string;
  /** What to print as the default if there is none. */
  readonly unset?: string;
  /** The paths that the shell offers as its value. */
  readonly completes?: PathKind;
}

/** A row of the table. */
export interface Setting extends AboutSetting {
  readonly schema: z.ZodMiniType;
}
