import { nameOf, type ServerProgram } from "../../stock/server-program.ts";
import type { RestoredFiles } from "../../stock/stock-directory.ts";
import { type CheckResult, checkRestored, serveRestored } from "../../stock/stock-server.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import type { Output } from "../terminal/output.ts";
import { table } from "../terminal/table.ts";

/** What to do with a finished restore. */
export interface Afterwards {
  readonly server: ServerProgram;
  readonly check: { readonly digest: boolean } | undefined;
  readonly servePort: number | undefined;
}

/** What a server found in a restore. */
export type Checked = CheckResult & { readonly server: ServerProgram };

/**
 * Boots a server on a finished restore, where that is asked for, and reports the restore in between.
 * @param report called once the check is done, or at once where none is wanted.
 * @returns the exit code.
 * @throws ReplicaError as `checkRestored` and `serveRestored`.
 */
export async function bootRestored(
  restored: RestoredFiles & { readonly atMs: number | undefined },
  afterwards: Afterwards | undefined,
  where: {
    readonly signal: AbortSignal;
    readonly stderr: Output;
    readonly onProgress: (loadedBytes: number, totalBytes: number) => void;
  },
  report: (checked: Checked | undefined) => void,
): Promise<number> {
  const { signal, stderr, onProgress } = where;
  if (afterwards === undefined) {
    report(undefined);
    return 0;
  }
  const { server, check, servePort } = afterwards;
  let checked: CheckResult | undefined;
  if (check !== undefined) {
    checked = await checkRestored(restored, server, { ...check, signal, onProgress });
  }
  report(checked === undefined ? undefined : { server, ...checked });
  if (servePort === undefined) return 0;
  const { port, ended } = await serveRestored(restored, server, {
    port: servePort,
    signal,
    onProgress,
  });
  const when = restored.atMs === undefined ? "" : ` as of ${shownTime(restored.atMs)}`;
  stderr.write(
    `${nameOf(server)} serves it at 127.0.0.1:${port}${when}, read-only; press Ctrl-C to stop\n`,
  );
  await ended;
  return 0;
}

/** Says for people what a server found. */
export function describeCheck({ server, databases, digest }: Checked): string {
  const rows = databases.map(({ database, keys, expires }) => [`db${database}`, keys, expires]);
  const found =
    rows.length === 0 ? "no key\n" : `\n${table(["database", "keys", "with expiry"], rows)}`;
  const sum = digest === undefined ? "" : `digest ${digest}\n`;
  return `${nameOf(server)} starts from it${rows.length === 0 ? ", with " : ":"}${found}${sum}`;
}

/** The same for programs. */
export function checkToJson({ server, databases, digest }: Checked) {
  const keys = databases.map(({ database, keys: count }) => [`db${database}`, count]);
  const check = { server: nameOf(server), keys: Object.fromEntries(keys) };
  return digest === undefined ? check : { ...check, digest };
}
