import { expect } from "bun:test";
import { chooseKeys } from "../../../src/inspect/chosen/choose-keys.ts";
import { writeChosenFolder } from "../../../src/inspect/chosen/chosen-folder.ts";
import type { ChosenKeys } from "../../../src/inspect/chosen/chosen-keys.ts";
import type { ChooseOptions } from "../../../src/inspect/chosen/replay.ts";
import { Glob } from "../../../src/base/glob.ts";
import { RdbReader } from "../../../src/rdb/reader/rdb-reader.ts";
import { findServer, type ServerProgram } from "../../../src/stock/server-program.ts";
import { StockServer } from "../../../src/stock/stock-server.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import type { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { restore } from "../../../src/store/restore/restore.ts";
import type { RestorePoint } from "../../../src/store/restore/restore-point.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { bootCopyOfDir, type RealServer, type ServerKind } from "../../support/servers.ts";
import { serverScript } from "../../support/stock.ts";
import type { TempDir } from "../../support/temp.ts";

const signal = new AbortController().signal;
export const surroundings = { disk: realDisk, signal, onProgress: () => undefined };

/** The program of a fetched server. */
export async function programOf(dir: TempDir, kind: ServerKind): Promise<ServerProgram> {
  return await findServer(serverScript(dir, kind));
}

export function choosing(server: ServerProgram, more: Partial<ChooseOptions> = {}): ChooseOptions {
  return { ...surroundings, server: async () => server, tell: () => undefined, ...more };
}

/** A key as a test compares it. Expiries are those of the RDB: a server that serves hides what has expired. */
interface Key {
  readonly db: number;
  readonly name: string;
  readonly expiresAtMs: number | undefined;
}

/** A whole restore, its keys, and a server that runs on it and expires nothing. */
export interface Whole extends AsyncDisposable {
  readonly keys: readonly Key[];
  readonly server: RealServer;
}

export async function wholeAt(
  catalogue: Catalogue,
  point: RestorePoint,
  kind: ServerKind,
  dir: TempDir,
): Promise<Whole> {
  const target = dir.file(`whole-${point.generation.id}-${point.offset}`);
  const program = await programOf(dir, kind);
  const restored = await restore(catalogue, point, target, {
    ...surroundings,
    layout: "multipart",
  });
  const keys = await keysIn(restored, program, dir);
  const server = await bootUnexpiring(kind, target);
  return { keys, server, [Symbol.asyncDispose]: async () => await server.stop() };
}

/** Keys by database and name, with their expiries, as a server saves them that has loaded a folder. */
async function keysIn(
  restored: { readonly dir: string; readonly layout: "multipart" | "single" },
  program: ServerProgram,
  dir: TempDir,
): Promise<Key[]> {
  await using running = await StockServer.boot(restored, program, signal, { as: "private" });
  await running.loaded();
  const path = dir.file("saved.rdb");
  await running.save(path);
  const keys: Key[] = [];
  const reader = new RdbReader({
    entry: ({ db, key, expiresAtMs }) => {
      keys.push({ db, name: Buffer.from(key).toString("latin1"), expiresAtMs });
    },
  });
  reader.push(await Bun.file(path).bytes());
  reader.finish();
  return keys;
}

async function bootUnexpiring(kind: ServerKind, target: string): Promise<RealServer> {
  const args = ["--appendonly", "yes", "--replicaof", "127.0.0.1", "0"];
  return await bootCopyOfDir(kind, target, { args: [...args, "--enable-debug-command", "yes"] });
}

/**
 * Expects that choosing keys brings what the whole restore has, and nothing else.
 * @returns how it was found; undefined where there was no key.
 */
export async function expectEqual(
  catalogue: Catalogue,
  point: RestorePoint,
  whole: Whole,
  wanted: { readonly patterns: readonly string[]; readonly db: number | undefined },
  { kind, dir, options }: { kind: ServerKind; dir: TempDir; options: ChooseOptions },
): Promise<ChosenKeys["about"] | undefined> {
  const globs = wanted.patterns.map((text) => new Glob(Buffer.from(text).toString("latin1")));
  const expected = whole.keys.filter(
    ({ db, name }) =>
      (wanted.db ?? db) === db &&
      (wanted.patterns.includes("*") || globs.some((glob) => glob.matches(name))),
  );
  await using chosen = await chooseKeys(catalogue, point, wanted, options);
  const found: Key[] = [];
  for await (const { db, key, expiresAtMs } of chosen.entries()) {
    found.push({ db, name: Buffer.from(key).toString("latin1"), expiresAtMs });
  }
  expect(sorted(found)).toEqual(sorted(expected));
  const target = dir.file("chosen");
  const how = { ...surroundings, layout: "multipart" as const, mode: undefined, nowMs: Date.now() };
  const writing = writeChosenFolder(chosen, catalogue, target, { ...how, target: undefined });
  if (expected.length === 0) {
    expect(await rejectionOf(() => writing)).toMatchObject({ code: "KEYS_NOT_FOUND" });
    return undefined;
  }
  const { keys } = await writing;
  expect(keys).toBe(expected.length);
  try {
    await using server = await bootUnexpiring(kind, target);
    expect(await digests(server, expected)).toEqual(await digests(whole.server, expected));
    expect(await keysOf(server)).toBe(expected.length);
  } finally {
    realDisk.remove(target);
  }
  return chosen.about;
}

function sorted(keys: readonly Key[]): Key[] {
  const place = ({ db, name }: Key) => `${db} ${name}`;
  return keys.toSorted((a, b) => (place(a) < place(b) ? -1 : 1));
}

/** The type and a digest of each key's value, whether it has expired or not. */
async function digests(server: RealServer, keys: readonly Key[]) {
  const found: Record<string, unknown> = {};
  for (const { db, name } of keys) {
    await server.send("SELECT", db);
    const key = Buffer.from(name, "latin1");
    found[`${db} ${name}`] = await server.send("DEBUG", "DIGEST-VALUE", key);
  }
  return found;
}

async function keysOf(server: RealServer): Promise<number> {
  const counts = await server.keysPerDatabase();
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
