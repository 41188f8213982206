import { ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { counted, formatBytes } from "../../base/quantity.ts";
import { findServer, nameOf, type ServerProgram } from "../../stock/server-program.ts";
import { refuseMismatch } from "../../stock/stock-directory.ts";
import { type CheckResult, checkRestored, serveRestored } from "../../stock/stock-server.ts";
import { Catalogue, cutShortNote } from "../../store/restore/catalogue.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { PieceCheckers } from "../../store/pieces/piece-checkers.ts";
import {
  type Layout,
  restore as write,
  type Restored,
  type RestoreOptions,
} from "../../store/restore/restore.ts";
import {
  type RestorePoint,
  restorePoint,
  shownTime,
  type Wanted,
} from "../../store/restore/restore-point.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import { isArchiveUrl } from "../archives/archive-source.ts";
import type { CommandContext, RunCommand } from "./command.ts";
import { fileProgress } from "./file-progress.ts";
import { table } from "../terminal/table.ts";
import { modeOf } from "./mode-option.ts";
import { momentOf, wholeNumber } from "./moment-options.ts";

/** What to do with a finished restore. */
interface Afterwards {
  readonly server: ServerProgram;
  readonly check: { readonly digest: boolean } | undefined;
  readonly servePort: number | undefined;
}

/** `replica restore SOURCE TARGET`: writes files that a stock server starts from, as of a moment. */
export const restore: RunCommand = async (context) => {
  const { args, options, settings, stderr } = context;
  if (args[1]?.includes("://") === true) {
    throw usageError(
      `${args[1]} is not a folder: in "replica restore SOURCE TARGET", TARGET is one`,
    );
  }
  const choose = await chooserOf(args[0] ?? "");
  const writeChosen = await choose(context);
  const layout = layoutOf(options.get("layout"));
  const mode = modeOf(options);
  // Before anything is written, so that a missing or too old server is reported at once.
  const afterwards = await afterwardsOf(options);
  if (afterwards !== undefined) refuseMismatch({ layout }, afterwards.server);
  const progress = fileProgress(stderr, settings.progress);
  try {
    const done = await writeChosen({ layout, mode }, progress.look);
    if (afterwards === undefined) {
      report(context, done, undefined);
      return 0;
    }
    const load = (loaded: number, total: number) => progress.look("load", loaded, total);
    return await boot(context, done, afterwards, load);
  } finally {
    progress.end();
  }
};

/** A finished restore, and the generation that it comes from, as people call it. */
interface Done {
  readonly restored: Restored;
  readonly from: string | number;
}

/** Finds out what to restore; what it returns does it. */
type Choose = (
  context: CommandContext,
) => Promise<
  (
    how: Pick<RestoreOptions, "layout" | "mode">,
    onProgress: (file: string, bytes: number, totalBytes: number) => void,
  ) => Promise<Done>
>;

async function chooserOf(source: string): Promise<Choose> {
  // What reads an archive is large, and few restores need it.
  if (isArchiveUrl(source)) return (await import("./restore-archived.ts")).archivedRestore;
  return async (context) => {
    const wanted = await momentOf(context, source);
    return async (how, onProgress) => {
      const restored = await writeRestored(context, context.args, { wanted, ...how }, onProgress);
      return { restored, from: restored.generation.id };
    };
  };
}

async function writeRestored(
  { clock, signal }: CommandContext,
  [dir = "", target = ""]: readonly string[],
  { wanted, ...how }: Pick<RestoreOptions, "layout" | "mode"> & { readonly wanted: Wanted },
  onProgress: (file: string, bytes: number, totalBytes: number) => void,
): Promise<Restored> {
  using catalogue = new Catalogue(dir);
  for (const loss of catalogue.losses) logger.warn(describeDamage(loss));
  const note = cutShortNote(catalogue);
  if (note !== undefined) logger.info(note);
  const nowMs = clock.now();
  const point = restorePoint(catalogue, wanted, nowMs);
  using checkers = new PieceCheckers({ signal });
  const surroundings = { disk: realDisk, signal, ...how, onProgress, checkers };
  const restored = await write(catalogue, point, target, surroundings).catch((error: unknown) => {
    throw isDamage(error) ? withOthers(error, catalogue, { wanted, nowMs, point }) : error;
  });
  for (const warning of restored.warnings) logger.warn(warning);
  return restored;
}

function isDamage(error: unknown): error is ReplicaError {
  return error instanceof ReplicaError && error.code === "DIRECTORY_DAMAGED";
}

/** What was looked for, when, and what was found. */
interface Search {
  readonly wanted: Wanted;
  readonly nowMs: number;
  readonly point: RestorePoint;
}

/** How many other generations to suggest; `replica snapshots` lists them all. */
const MAX_OTHERS = 3;

/** Adds to the error which other generations can be restored instead, the newest first. */
function withOthers(
  damage: ReplicaError,
  catalogue: Catalogue,
  { wanted, nowMs, point }: Search,
): ReplicaError {
  const damaged = point.generation;
  const isEnd = wanted.offset === undefined && wanted.atMs === undefined;
  const others = catalogue.generations
    .filter(({ id }) => id !== damaged.id)
    .toReversed()
    .flatMap(({ id }) => pointIn(catalogue, { ...wanted, generation: id }, nowMs) ?? [])
    .slice(0, MAX_OTHERS)
    .map(({ generation: { id }, offset }) => {
      const what = isEnd ? `goes up to offset ${offset}` : "covers it too";
      return `; generation ${id} ${what} (--generation ${id})`;
    });
  const { code, retry, message } = damage;
  return new ReplicaError(code, { retry, message: message + others.join(""), cause: damage });
}

function pointIn(catalogue: Catalogue, wanted: Wanted, nowMs: number): RestorePoint | undefined {
  try {
    return restorePoint(catalogue, wanted, nowMs);
  } catch (error) {
    if (error instanceof ReplicaError && error.code === "USAGE") return undefined;
    throw error;
  }
}

async function boot(
  context: CommandContext,
  done: Done,
  { server, check, servePort }: Afterwards,
  onProgress: (loadedBytes: number, totalBytes: number) => void,
): Promise<number> {
  const { signal, stderr } = context;
  const { restored } = done;
  let checked: CheckResult | undefined;
  if (check !== undefined) {
    checked = await checkRestored(restored, server, { ...check, signal, onProgress });
  }
  report(context, done, checked === undefined ? undefined : { server, ...checked });
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

async function afterwardsOf(options: ReadonlyMap<string, string>): Promise<Afterwards | undefined> {
  const digest = options.has("digest");
  const isChecked = options.has("check") || digest;
  const serve = options.get("serve");
  if (!isChecked && serve === undefined) {
    if (options.has("server")) throw usageError("--server needs --check, --digest or --serve");
    return undefined;
  }
  const servePort = wholeNumber("serve", serve);
  if ((servePort ?? 0) > 65535)
    throw usageError("--serve takes a port from 0 to 65535; 0 picks a free one");
  const server = await findServer(options.get("server"));
  return { server, check: isChecked ? { digest } : undefined, servePort };
}

function layoutOf(text: string | undefined): Layout {
  if (text === undefined || text === "multipart") return "multipart";
  if (text === "single") return "single";
  throw usageError(
    `--layout is ${JSON.stringify(text.slice(0, 100))}: it takes multipart or single`,
  );
}

type Checked = CheckResult & { readonly server: ServerProgram };

function report(
  { options, stdout }: CommandContext,
  done: Done,
  checked: Checked | undefined,
): void {
  stdout.write(
    options.has("json")
      ? `${JSON.stringify({ ...toJson(done), ...(checked && { check: checkToJson(checked) }) })}\n`
      : describe(done) + (checked === undefined ? "" : describeCheck(checked)),
  );
}

function describeCheck({ server, databases, digest }: Checked): string {
  const rows = databases.map(({ database, keys, expires }) => [`db${database}`, keys, expires]);
  const found =
    rows.length === 0 ? "no key\n" : `\n${table(["database", "keys", "with expiry"], rows)}`;
  const sum = digest === undefined ? "" : `digest ${digest}\n`;
  return `${nameOf(server)} starts from it${rows.length === 0 ? ", with " : ":"}${found}${sum}`;
}

function checkToJson({ server, databases, digest }: Checked) {
  const keys = databases.map(({ database, keys: count }) => [`db${database}`, count]);
  const check = { server: nameOf(server), keys: Object.fromEntries(keys) };
  return digest === undefined ? check : { ...check, digest };
}

function describe({ restored, from }: Done): string {
  const { dir, layout, offset, atMs, commands, rewrittenCommands } = restored;
  const when = atMs === undefined ? "at an unknown time" : `as of ${shownTime(atMs)}`;
  const made =
    rewrittenCommands === 0
      ? ""
      : `, ${rewrittenCommands} of them rewritten to do the same whenever they are loaded`;
  return `${dir}: generation ${from} up to offset ${offset}, ${when}
  a snapshot of ${formatBytes(restored.rdbBytes)} and ${counted(commands, "command")} after it (${formatBytes(restored.logBytes)})${made}
  start a server on it: redis-server --dir ${dir} --appendonly yes
  (with --databases N if the primary has more than 16${layout === "single" ? "; any server since Redis 4" : ""})
`;
}

function toJson({ restored, from }: Done) {
  const { dir, layout, offset, atMs, commands, ...more } = restored;
  return {
    dir,
    layout,
    generation: from,
    offset,
    time: atMs === undefined ? null : shownTime(atMs),
    commands,
    rewritten_commands: more.rewrittenCommands,
    rdb_bytes: more.rdbBytes,
    log_bytes: more.logBytes,
    warnings: more.warnings,
  };
}
