/** The keys of one database, as INFO reports them. */
export interface DatabaseKeys {
  readonly database: number;
  readonly keys: number;
  /** How many of them have an expiry. */
  readonly expires: number;
}

/** Parses INFO into its fields by name, without section titles. */
export function parseInfo(text: string): Map<string, string> {
  const info = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon > 0 && !line.startsWith("#")) info.set(line.slice(0, colon), line.slice(colon + 1));
  }
  return info;
}

/** Parses the databases of `INFO keyspace` (`db0:keys=3,expires=1,…`): those with keys. */
export function parseKeyspace(text: string): DatabaseKeys[] {
  const lines = text.matchAll(/^db(\d+):keys=(\d+),expires=(\d+)/gm);
  return [...lines].map(([, database, keys, expires]) => ({
    database: Number(database),
    keys: Number(keys),
    expires: Number(expires),
  }));
}
