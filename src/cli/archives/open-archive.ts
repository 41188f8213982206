import { readFileSync } from "node:fs";
import { Decryption } from "../../archive/format/encryption.ts";
import { Archive } from "../../archive/reader/archive.ts";
import { ArchiveSource } from "../../archive/reader/archive-source.ts";
import { realFolderDisk } from "../../archive/store/folder-disk.ts";
import { openStore } from "../../archive/store/open-store.ts";
import { sdkCredentials } from "../../archive/store/sdk-credentials.ts";
import type { Clock } from "../../base/clock.ts";
import { usageError } from "../../base/errors.ts";
import { printable } from "../../base/printable.ts";

/** What opening an archive needs of a command. */
export interface ArchiveContext {
  readonly options: ReadonlyMap<string, string>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Opens the archive that a command's SOURCE names.
 * @param url `s3://bucket/prefix` or `file:///path`.
 * @throws ReplicaError USAGE for another URL, options that can't be, and where there is no archive; ARCHIVE_TOO_NEW; of
 * the store; the signal's reason.
 */
export async function openArchive(
  url: string,
  { options, env, clock, signal }: ArchiveContext,
): Promise<Archive> {
  const [endpoint, region] = [options.get("archive-endpoint"), options.get("archive-region")];
  const place = {
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
  };
  const store = openStore(url, place, {
    clock,
    disk: realFolderDisk,
    environment: env,
    // Their code is loaded with the first request that needs it.
    credentials: sdkCredentials(),
  });
  const decryption = await decryptionOf(options.get("archive-identity"));
  return await Archive.open(new ArchiveSource(store, decryption), signal);
}

async function decryptionOf(path: string | undefined): Promise<Decryption | undefined> {
  if (path === undefined) return undefined;
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw usageError(`--archive-identity names ${printable(path)}, which can't be read`, cause);
  }
  return await Decryption.fromFile(path, text);
}
