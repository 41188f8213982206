import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Clock } from "../../base/clock.ts";
import { usageError } from "../../base/errors.ts";
import { printable } from "../../base/printable.ts";
import type { FolderDisk } from "./folder-disk.ts";
import {
  type CredentialSource,
  CurrentCredentials,
  environmentCredentials,
} from "./credentials.ts";
import { FileStore } from "./file-store.ts";
import type { ObjectStore } from "./object-store.ts";
import { S3Address, type S3Place } from "./s3-address.ts";
import { S3Client } from "./s3-client.ts";
import { S3Store } from "./s3-store.ts";
import { S3Transport } from "./s3-transport.ts";

/** What a store takes from the world around it. */
export interface StoreSeams {
  readonly clock: Clock;
  readonly disk: FolderDisk;
  /** The variables that every S3 tool reads. Proxies (HTTPS_PROXY, NO_PROXY) Bun takes from the process's own. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Where credentials come from if the environment has none. */
  readonly credentials: CredentialSource;
}

/**
 * Opens an archive's store. Nothing is asked of it yet.
 * @param url `s3://bucket/prefix` or `file:///path`.
 * @throws ReplicaError USAGE for another URL, and for settings or variables that can't be.
 */
export function openStore(url: string, place: S3Place, seams: StoreSeams): ObjectStore {
  if (url.startsWith("s3://")) return openS3(url, place, seams);
  const folder = archiveFolder(url);
  if (folder !== undefined) return new FileStore(folder, seams.disk, seams.clock);
  throw usageError(`"${printable(url)}" is no archive: it is s3://bucket/prefix or file:///path`);
}

/** Opens a bucket, which can store objects of any length. @param url `s3://bucket/prefix`. @throws ReplicaError USAGE. */
export function openS3(
  url: string,
  place: S3Place,
  { clock, environment, credentials }: Omit<StoreSeams, "disk">,
): S3Store {
  const address = new S3Address(url, place, environment);
  const source = environmentCredentials(environment) ?? credentials;
  const transport = new S3Transport(address, clock, readCa(environment["AWS_CA_BUNDLE"]));
  const client = new S3Client(address, transport, new CurrentCredentials(source, clock), clock);
  return new S3Store(address, client);
}

/** The folder of a file:// archive; undefined for another URL. @throws ReplicaError USAGE for one that names none. */
export function archiveFolder(url: string): string | undefined {
  if (!url.startsWith("file://")) return undefined;
  // A URL ends its path there: two archives would be one.
  if (/[?#]|%00/.test(url)) {
    const part = printable(url.slice(0, url.search(/[?#]|%00/)));
    throw usageError(
      `the URL of an archive ends with its path, and that after "${part}" is none: write ? as %3F and # as %23`,
    );
  }
  try {
    return resolve(fileURLToPath(url));
  } catch (cause) {
    throw usageError(`"${printable(url)}" is not of the form file:///path`, cause);
  }
}

/** As for Amazon's own tools, these certificates are trusted in place of the system's. */
function readCa(path: string | undefined): string | undefined {
  if (path === undefined || path === "") return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw usageError(`AWS_CA_BUNDLE names ${printable(path)}, which can't be read`, cause);
  }
}
