import { edit, held, mutation, type HeldPromise } from "./mutation.ts";

/** A data directory that was changed. */
export const changedDirectory: readonly HeldPromise[] = [
  held(
    "test/integration/verify.test.ts",
    "neither waits for a pipe nor reads a device without end in place of a kept file",
    mutation(
      "takes a pipe for a kept file",
      edit("src/store/restore/verify.ts", 'return about.isFile() ? undefined : "it is no file";'),
    ),
  ),
  held(
    "test/store/restore/damage.test.ts",
    "finds any changed byte of the snapshot, and refuses to restore it",
    mutation(
      "restores a snapshot that is damaged",
      edit("src/store/restore/restore.ts", "if (damage !== undefined) throw damageError(damage);"),
    ),
  ),
  held(
    "test/store/restore/damage.test.ts",
    "finds any changed byte of a snapshot that states no checksum, and refuses to restore it",
    mutation(
      "does not compare a snapshot with the checksum that was recorded",
      edit(
        "src/store/restore/verify.ts",
        "generation.rdbCrc64 === undefined || generation.rdbCrc64 === crc64",
        "generation.rdbCrc64 !== crc64 || true",
      ),
    ),
  ),
  held(
    "test/store/restore/damage.test.ts",
    "finds any changed byte of the log, and restores what lies before it",
    mutation(
      "does not compare the log with the checksums that were recorded",
      edit("src/store/restore/log-scan.ts", "if (found === crc64) {", 'if (found !== "") {'),
    ),
  ),
  held(
    "test/store/restore/hostile-database.test.ts",
    "a number in replica.db that can't be is damage",
    mutation(
      "takes any number from the database",
      edit(
        "src/store/ledger/sound-row.ts",
        "else if (value !== null && !isCount(name, value)) throw",
        'else if (value !== null && !isCount(name, value) && name === "") throw',
      ),
    ),
    mutation(
      "takes a log that ends before it begins",
      edit("src/store/ledger/sound-row.ts", "one < other;", "one < other && one < 0;"),
    ),
  ),
  held(
    "test/store/restore/hostile-database.test.ts",
    "no text of a data directory steers a terminal",
    mutation(
      "shows the database's text as it is",
      edit(
        "src/store/ledger/sound-row.ts",
        "fields[name] = printable(value);",
        "fields[name] = value;",
      ),
    ),
    mutation(
      "shows what the link points at as it is",
      edit("src/store/restore/verify.ts", "${printable(target)}", "${target}"),
    ),
  ),
];
