import { Database } from "bun:sqlite";

/** Stands for `sqlite3 -readonly -separator ' ' FILE SQL`, which not every machine has. */
const [readonly, separator, blank, file = "", sql = ""] = process.argv.slice(2);
if (readonly !== "-readonly" || separator !== "-separator" || blank !== " ") {
  throw new Error("sqlite3 -readonly -separator ' ' FILE SQL");
}
using database = new Database(file, { readonly: true });
for (const row of database.query(sql).values()) process.stdout.write(`${row.join(" ")}\n`);
