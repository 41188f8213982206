import * as fs from "node:fs";
import { join } from "node:path";
import { type ErrorCode, ReplicaError } from "../base/errors.ts";
import { APPEND_DIR, RESTORED, SINGLE_FILE } from "../store/restore/restore.ts";
import { nameOf, type ServerProgram } from "./server-program.ts";
import { DATABASES, type RestoredFiles } from "./stock-directory.ts";

const QUOTED_LINES = 3;
const QUOTED_CHARACTERS = 300;
/** Warnings that every start prints: about the machine, and about the primary that does not exist. */
const NO_REASON = /^WARNING|^Server initialized|^Error condition on socket for SYNC/;
const VALKEY_MAGIC = "VALKEY";

/** How a stock server ended. */
export interface StockEnding {
  /** Where it should have served: `127.0.0.1:7000`, or its socket. */
  readonly address: string;
  /** Its last lines of output. */
  readonly lines: readonly string[];
  readonly exitCode: number | null;
  readonly signalCode: string | null;
  /** Whether it had begun to load the files; if not, they are not the cause. */
  readonly hasBegun: boolean;
  /** Whether it had loaded everything. */
  readonly hasLoaded: boolean;
}

/** Explains why a server ended by itself: RESTORE_UNUSABLE if, by its own output, it can't load the files. */
export function stockFailure(
  restored: RestoredFiles,
  program: ServerProgram,
  ending: StockEnding,
): ReplicaError {
  const { address, lines, exitCode, signalCode, hasBegun, hasLoaded } = ending;
  const failure = (code: ErrorCode, what: string): ReplicaError =>
    new ReplicaError(code, { retry: "never", message: `${nameOf(program)} ${what}` });
  const said = lines.join("\n");
  if (said.includes("Address already in use")) {
    // A node listens at a second port, and says which one is taken.
    const taken = /listening socket (\S+:\d+): .*Address already in use/.exec(said)?.[1];
    return failure(
      "PORT_IN_USE",
      `can't serve at ${taken ?? address}: the port is in use; choose another one`,
    );
  }
  const format = /Can't handle RDB format version (\d+)/.exec(said)?.[1];
  if (format !== undefined || (!hasLoaded && isUnknownToIt(restored, program, said))) {
    // The files are fine, but the question was whether this server starts from them.
    return failure(
      "RESTORE_UNUSABLE",
      `can't read the snapshot's format (${format ?? "Valkey's own"}): the server is older than the primary was, or of the other kind (Redis, Valkey); give a newer one with --server`,
    );
  }
  if (!hasLoaded && said.includes("configured to handle more than")) {
    return failure(
      "SERVER_FAILED",
      `has ${DATABASES} databases here, and the snapshot has more: start a server on it by hand, with as many databases as the primary`,
    );
  }
  const words = `${quote(lines)} (${signalCode ?? `exit code ${exitCode ?? "unknown"}`})`;
  if (signalCode === "SIGKILL" || said.includes("Out Of Memory")) {
    return failure(
      "SERVER_FAILED",
      `was killed or ran out of memory; it needs as much memory as the data takes. It said: ${words}`,
    );
  }
  if (hasLoaded || !hasBegun) {
    return failure("SERVER_FAILED", `ended by itself, saying: ${words}`);
  }
  return failure(
    "RESTORE_UNUSABLE",
    `doesn't start from ${restored.dir}, saying: ${words}; restore again, and if that fails too, restore an earlier moment`,
  );
}

/**
 * Whether the server mistook a snapshot that begins with VALKEY for damaged commands. Valkey 9 and later
 * write such snapshots; older servers don't recognise them as snapshots at all.
 */
function isUnknownToIt(
  { dir, layout }: RestoredFiles,
  program: ServerProgram,
  said: string,
): boolean {
  if (!said.includes("Bad file format") || (program.product === "Valkey" && program.major >= 9)) {
    return false;
  }
  const path = layout === "single" ? join(dir, SINGLE_FILE) : join(dir, APPEND_DIR, RESTORED.base);
  const head = Buffer.alloc(VALKEY_MAGIC.length);
  try {
    const fd = fs.openSync(path, "r");
    try {
      fs.readSync(fd, head, 0, head.length, 0);
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    // There is no such file: the server's own words stand.
  }
  return head.toString("latin1") === VALKEY_MAGIC;
}

/** Its last warnings on one line; if there are none (a crash, a shell), its last lines. */
function quote(lines: readonly string[]): string {
  const plain = lines
    .map((line) => line.replace(/\p{Cc}/gu, " ").trim())
    .filter((line) => line !== "");
  // `<pid>:<role> <date> # <text>`; M and S are the running server, other roles its start or children.
  const warnings = plain.flatMap((line) => /^\d+:[MS] .*? # (.*)$/.exec(line)?.[1] ?? []);
  const reasons = warnings.filter((text) => !NO_REASON.test(text));
  const quoted = reasons.length === 0 ? plain : reasons;
  if (quoted.length === 0) return "nothing";
  return quoted
    .slice(-QUOTED_LINES)
    .map((text) => JSON.stringify(text.slice(0, QUOTED_CHARACTERS)))
    .join(", ");
}
