import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { Archive } from "../../../src/archive/reader/archive.ts";
import { ArchiveSource } from "../../../src/archive/reader/archive-source.ts";
import { fetchGeneration } from "../../../src/archive/reader/fetch-generation.ts";
import { type ArchiveFindings, verifyArchive } from "../../../src/archive/reader/verify-archive.ts";
import type { Decryption } from "../../../src/archive/format/encryption.ts";
import { realFolderDisk } from "../../../src/archive/store/folder-disk.ts";
import type { ObjectStore } from "../../../src/archive/store/object-store.ts";
import { openStore } from "../../../src/archive/store/open-store.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY } from "../../support/fault-s3.ts";
import { StoreClock } from "../../support/store-clock.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";

export const never = new AbortController().signal;
export const quiet = { disk: realDisk, signal: never, onProgress: () => undefined };

/** The objects of a store, behind its back. */
export interface Objects {
  keys(): string[];
  get(key: string): Buffer;
  set(key: string, bytes: Uint8Array): void;
  delete(key: string): void;
}

/** A store for one test, and its objects. */
export interface Shelf extends AsyncDisposable {
  readonly store: ObjectStore;
  readonly objects: Objects;
  readonly clock: StoreClock;
  /** Undefined for a folder. */
  readonly server: FaultS3 | undefined;
}

export const SHELVES: readonly { readonly name: string; open(): Promise<Shelf> }[] = [
  { name: "s3://", open: openBucket },
  { name: "file://", open: openFolder },
];

export async function openBucket(): Promise<Shelf> {
  const server = await FaultS3.start();
  const clock = new StoreClock();
  const environment = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
  const credentials = () => Promise.reject(new Error("there are none"));
  const seams = { clock, disk: realFolderDisk, environment, credentials };
  const store = openStore("s3://bucket/archive", { endpoint: server.endpoint }, seams);
  const prefix = "archive/";
  const objects: Objects = {
    keys: () => [...server.objects.keys()].map((key) => key.slice(prefix.length)).toSorted(),
    get: (key) => server.objects.get(prefix + key)!.bytes,
    set: (key, bytes) =>
      void server.objects.set(prefix + key, { bytes: Buffer.from(bytes), atMs: Date.now() }),
    delete: (key) => void server.objects.delete(prefix + key),
  };
  return { store, objects, clock, server, [Symbol.asyncDispose]: () => server.stop() };
}

export async function openFolder(): Promise<Shelf> {
  const dir = tempDir("archive-reader");
  const clock = new StoreClock();
  const credentials = () => Promise.reject(new Error("there are none"));
  const seams = { clock, disk: realFolderDisk, environment: {}, credentials };
  const root = dir.file("archive");
  const objects: Objects = {
    keys: () =>
      fs
        .readdirSync(root, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
        .toSorted(),
    get: (key) => fs.readFileSync(join(root, key)),
    set: (key, bytes) => {
      fs.mkdirSync(dirname(join(root, key)), { recursive: true });
      fs.writeFileSync(join(root, key), bytes);
    },
    delete: (key) => fs.rmSync(join(root, key)),
  };
  const store = openStore(`file://${root}`, {}, seams);
  const end = async () => dir.remove();
  return { store, objects, clock, server: undefined, [Symbol.asyncDispose]: end };
}

export async function openArchive({ store }: Shelf, decryption?: Decryption): Promise<Archive> {
  return await Archive.open(new ArchiveSource(store, decryption), never);
}

/** What a whole check, or a quick one, finds. */
export async function verified(
  shelf: Shelf,
  { quick = false, decryption }: { quick?: boolean; decryption?: Decryption } = {},
): Promise<ArchiveFindings> {
  const archive = await openArchive(shelf, decryption);
  return await verifyArchive(archive, { quick, signal: never, onProgress: () => undefined });
}

/** Fetches a generation up to an offset, by default to its end. @returns the folder that was made. */
export async function fetched(
  archive: Archive,
  dir: TempDir,
  { at = 0, upTo }: { at?: number; upTo?: number } = {},
): Promise<string> {
  const generation = (await archive.generations(never))[at]!;
  const target = dir.file(`fetched-${fs.readdirSync(dir.path).length}`);
  await fetchGeneration(
    archive,
    generation,
    upTo ?? generation.log.chain.end.offset,
    target,
    quiet,
  );
  return target;
}
