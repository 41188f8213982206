/**
 * Mirrors the strings and hashes under a prefix into SQLite, each write exactly once:
 * `bun mirror.ts DATA-DIRECTORY|ARCHIVE-URL MIRROR.sqlite PREFIX`
 */
import { readLog } from "bun-replica";
import { apply } from "./apply.ts";
import { Tables } from "./tables.ts";

const [source = "", path = "", prefix = ""] = process.argv.slice(2);
const stopping = new AbortController();
process.once("SIGINT", () => stopping.abort());
process.once("SIGTERM", () => stopping.abort());

using tables = new Tables(path);
const from = tables.position;
if (from === null) throw new Error(`${path} is empty: fill it with seed.ts first`);

try {
  // Commands that write nothing come too: they move the position while nothing under the prefix is written.
  const options = { from, follow: true, all: true, signal: stopping.signal };
  for await (const entry of readLog(source, options)) {
    tables.begin();
    apply(tables, entry, Buffer.from(prefix));
    tables.position = { offset: entry.end, replid: entry.replid };
    // A transaction of the primary is one here, too.
    if (entry.transaction === undefined || entry.command === "EXEC") tables.commit();
  }
} catch (error) {
  if (!stopping.signal.aborted) throw error;
}
