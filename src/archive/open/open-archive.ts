import { readFileSync } from "node:fs";
import type { Clock } from "../../base/clock.ts";
import { usageError } from "../../base/errors.ts";
import { printable } from "../../base/printable.ts";
import type { ArchiveSettings } from "../../config/settings.ts";
import { Decryption } from "../format/encryption.ts";
import { Archive } from "../reader/archive.ts";
import { ArchiveSource } from "../reader/archive-source.ts";
import { realFolderDisk } from "../store/folder-disk.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { openS3, openStore } from "../store/open-store.ts";
import type { ObjectUpload } from "../store/s3-upload.ts";
import { sdkCredentials } from "../store/sdk-credentials.ts";

/** What opening an archive's store takes. */
export interface StoreContext {
  readonly settings: { readonly archive: Pick<ArchiveSettings, "endpoint" | "region"> };
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
}

/** What opening an archive to read it takes. */
export interface ArchiveContext extends StoreContext {
  readonly settings: {
    readonly archive: Pick<ArchiveSettings, "endpoint" | "region" | "identityFile">;
  };
  readonly signal: AbortSignal;
}

/**
 * Opens the store of an archive, as the settings and the environment say. Nothing is asked of it yet.
 * @param url `s3://bucket/prefix` or `file:///path`.
 * @throws ReplicaError USAGE for another URL, and for settings or variables that can't be.
 */
export function openArchiveStore(url: string, { settings, env, clock }: StoreContext): ObjectStore {
  const { endpoint, region } = settings.archive;
  return openStore(
    url,
    { endpoint, region },
    {
      clock,
      disk: realFolderDisk,
      environment: env,
      // Their code is loaded with the first request that needs it.
      credentials: sdkCredentials(),
    },
  );
}

/**
 * Opens an archive to read it.
 * @param url `s3://bucket/prefix` or `file:///path`.
 * @throws ReplicaError USAGE for another URL, settings that can't be, and where there is no archive; ARCHIVE_TOO_NEW; of
 * the store; the signal's reason.
 */
export async function openArchive(url: string, context: ArchiveContext): Promise<Archive> {
  return await Archive.open(await openSource(url, context), context.signal);
}

/**
 * The objects of an archive, which nothing is asked of yet: what is wrong then is wrong with the settings.
 * @param url `s3://bucket/prefix` or `file:///path`.
 * @throws ReplicaError USAGE for another URL, and for settings or variables that can't be.
 */
export async function openSource(
  url: string,
  context: Omit<ArchiveContext, "signal">,
): Promise<ArchiveSource> {
  const store = openArchiveStore(url, context);
  return new ArchiveSource(store, await decryptionOf(context.settings.archive.identityFile));
}

/**
 * Begins to store one object, which is no part of an archive.
 * @param url `s3://bucket/key`.
 * @param replaces whether an object of that name is replaced.
 * @throws ReplicaError USAGE for another URL, settings that can't be, and where one is there and must not be replaced; of
 * the store; the signal's reason.
 */
export async function openUpload(
  url: string,
  replaces: boolean,
  { settings, env, clock, signal }: StoreContext & { readonly signal: AbortSignal },
): Promise<ObjectUpload> {
  const match = /^(s3:\/\/[^/]+(?:\/.+)?)\/([^/]+)$/.exec(url);
  if (match === null)
    throw usageError(`"${printable(url)}" names no object: it takes the form s3://bucket/key`);
  const [, folder = "", key = ""] = match;
  const { endpoint, region } = settings.archive;
  const seams = { clock, environment: env, credentials: sdkCredentials() };
  const store = openS3(folder, { endpoint, region }, seams);
  return await store.upload(key, replaces, clock, signal);
}

/**
 * Reads the age identity that reads an encrypted archive.
 * @throws ReplicaError USAGE for a file that can't be read or holds none.
 */
export async function decryptionOf(path: string | undefined): Promise<Decryption | undefined> {
  if (path === undefined) return undefined;
  if (/^AGE-SECRET-KEY/i.test(path)) {
    throw usageError(
      "--archive-identity takes the path of the file that holds the key, not the key",
    );
  }
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw usageError(`--archive-identity names ${printable(path)}, which can't be read`, cause);
  }
  return await Decryption.fromFile(path, text);
}
