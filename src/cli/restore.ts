import { ReplicaError } from "../errors.ts";
import { log } from "../logger.ts";
import { formatBytes } from "../quantity.ts";
import { Catalogue } from "../store/catalogue.ts";
import { realDisk } from "../store/disk.ts";
import { type Layout, restore as write, type Restored } from "../store/restore.ts";
import { restorePoint, shownTime, type Wanted } from "../store/restore-point.ts";
import type { RunCommand } from "./command.ts";
import { fileProgress } from "./file-progress.ts";

/** `replica restore DIR TARGET`: what a stock server starts from, as of a moment. */
export const restore: RunCommand = async ({ args, options, settings, signal, stdout, stderr }) => {
  const [dir, target] = [args[0]!, args[1]!];
  const wanted = wantedOf(options);
  const layout = layoutOf(options.get("layout"));
  using catalogue = new Catalogue(dir);
  for (const warning of catalogue.warnings) log.warn(warning);
  const progress = fileProgress(stderr, settings.progress);
  let restored: Restored;
  try {
    const point = restorePoint(catalogue, wanted);
    const surroundings = { disk: realDisk, signal, layout, onProgress: progress.look };
    restored = await write(catalogue, point, target, surroundings);
  } finally {
    progress.end();
  }
  for (const warning of restored.warnings) log.warn(warning);
  stdout.write(options.has("json") ? `${JSON.stringify(toJson(restored))}\n` : describe(restored));
  return 0;
};

function usage(message: string): ReplicaError {
  return new ReplicaError("USAGE", { retry: "never", message });
}

function wantedOf(options: ReadonlyMap<string, string>): Wanted {
  const [at, offset, generation] = ["at", "offset", "generation"].map((name) => options.get(name));
  if (at !== undefined && offset !== undefined) throw usage("give --at or --offset, not both");
  return {
    atMs: at === undefined ? undefined : parseTime(at),
    offset: wholeNumber("offset", offset),
    generation: wholeNumber("generation", generation),
  };
}

function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(value)) return value;
  throw usage(`--${name} is ${JSON.stringify(text.slice(0, 100))}: it takes a whole number`);
}

/**
 * A moment as people write it: ISO 8601, of the local time zone where it names none, or unix seconds.
 * @returns milliseconds since 1970.
 * @throws ReplicaError USAGE
 */
export function parseTime(text: string): number {
  if (/^\d{1,11}(?:\.\d{1,9})?$/.test(text)) return Math.floor(Number(text) * 1000);
  const iso = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?$/i;
  const atMs = iso.test(text) ? Date.parse(text.replace(" ", "T").replace(",", ".")) : Number.NaN;
  if (!Number.isNaN(atMs)) return atMs;
  throw usage(
    `--at is ${JSON.stringify(text.slice(0, 100))}: it takes a time as 2026-01-31T12:00:00Z, or unix seconds`,
  );
}

function layoutOf(text: string | undefined): Layout {
  if (text === undefined || text === "multipart") return "multipart";
  if (text === "single") return "single";
  throw usage(`--layout is ${JSON.stringify(text.slice(0, 100))}: it takes multipart or single`);
}

function describe(restored: Restored): string {
  const { dir, layout, generation, offset, atMs, commands, rewrittenCommands } = restored;
  const when = atMs === undefined ? "at a time that nothing tells" : `as of ${shownTime(atMs)}`;
  const made =
    rewrittenCommands === 0 ? "" : `, of which ${rewrittenCommands} got the expiry that they meant`;
  return `${dir}: generation ${generation.id} up to offset ${offset}, ${when}
  ${formatBytes(restored.rdbBytes)} of snapshot, and ${commands} commands behind it (${formatBytes(restored.logBytes)})${made}
  start a server on it: redis-server --dir ${dir} --appendonly yes${layout === "single" ? "  (or an older one, from 4 on)" : ""}
`;
}

function toJson({ dir, layout, generation, offset, atMs, commands, ...more }: Restored) {
  return {
    dir,
    layout,
    generation: generation.id,
    offset,
    time: atMs === undefined ? null : shownTime(atMs),
    commands,
    rewritten_commands: more.rewrittenCommands,
    rdb_bytes: more.rdbBytes,
    log_bytes: more.logBytes,
    warnings: more.warnings,
  };
}
