import {
  BASE_FILE,
  baseFolder,
  GENERATION_FILE,
  generationKey,
  logFolder,
  parsePieceName,
  parseSegmentName,
  REMOVED_FILE,
  SEALED_FILE,
} from "../format/names.ts";
import { isLeftover } from "../store/file-store.ts";
import type { ListedObject, ObjectStore } from "../store/object-store.ts";

/** In the order in which they go: as long as one of them is there, so is the last. */
const DOCUMENTS = [BASE_FILE, SEALED_FILE, GENERATION_FILE, REMOVED_FILE];

/** What lies in a generation's folder, without what its objects hold. */
export interface FolderView {
  readonly name: string;
  /** The documents of ours, and when the store took each: milliseconds since 1970, by its own clock. */
  readonly documents: ReadonlyMap<string, number>;
  /** The sizes of the base's pieces by their names. */
  readonly pieces: ReadonlyMap<string, number>;
  readonly hasLog: boolean;
  /** When the store took its newest object, whosever it is, without that which marks its removal; -Infinity for none. */
  readonly youngestMs: number;
  /** What writers left that ended amid a put: nobody reads it. */
  readonly leftovers: readonly { readonly key: string; readonly modifiedMs: number }[];
  /** The key of something that no writer of ours makes; undefined where there is none. */
  readonly foreign: string | undefined;
}

/** An object of ours. */
export interface OwnObject {
  readonly key: string;
  readonly bytes: number;
}

interface Folder {
  readonly key: string;
  readonly isOurs: (name: string) => boolean;
}

function foldersOf(name: string): { readonly root: Folder; readonly within: readonly Folder[] } {
  const isOurs = (file: string) => DOCUMENTS.includes(file);
  return {
    root: { key: generationKey(name), isOurs },
    within: [
      { key: baseFolder(name), isOurs: (file) => parsePieceName(file) !== undefined },
      { key: logFolder(name), isOurs: (file) => parseSegmentName(file) !== undefined },
    ],
  };
}

/** Looks at a generation's folder: a LIST of it, and of each folder in it. @throws ReplicaError of the store. */
export async function lookAtFolder(
  store: ObjectStore,
  name: string,
  signal: AbortSignal,
): Promise<FolderView> {
  const { root, within } = foldersOf(name);
  const documents = new Map<string, number>();
  const pieces = new Map<string, number>();
  const leftovers: { key: string; modifiedMs: number }[] = [];
  let hasLog = false;
  let youngestMs = -Infinity;
  let foreign: string | undefined;
  const take = (folder: Folder, object: ListedObject) => {
    const { name: file, bytes, modifiedMs } = object;
    const key = `${folder.key}/${file}`;
    if (file !== REMOVED_FILE) youngestMs = Math.max(youngestMs, modifiedMs);
    if (isLeftover(file)) leftovers.push({ key, modifiedMs });
    else if (!folder.isOurs(file)) foreign ??= key;
    else if (folder === root) documents.set(file, modifiedMs);
    else if (folder === within[0]) pieces.set(file, bytes);
    else hasLog = true;
  };
  for (const folder of [root, ...within]) {
    for await (const { objects, folders } of store.list(folder.key, signal)) {
      for (const object of objects) take(folder, object);
      for (const inner of folders) {
        const key = `${folder.key}/${inner}`;
        if (!within.some((known) => known.key === key)) foreign ??= `${key}/`;
      }
    }
  }
  return { name, documents, pieces, hasLog, youngestMs, leftovers, foreign };
}

/**
 * The objects of ours in a generation's folder, in the order in which they go: what marks its removal last, so that one
 * that was cut is known as that. @throws ReplicaError of the store.
 */
export async function ownObjects(
  store: ObjectStore,
  name: string,
  signal: AbortSignal,
): Promise<{ readonly data: readonly OwnObject[]; readonly documents: readonly OwnObject[] }> {
  const { root, within } = foldersOf(name);
  const found = async (folder: Folder) => {
    const own: (OwnObject & { readonly file: string })[] = [];
    for await (const { objects } of store.list(folder.key, signal)) {
      for (const { name: file, bytes } of objects) {
        if (folder.isOurs(file) || isLeftover(file))
          own.push({ file, key: `${folder.key}/${file}`, bytes });
      }
    }
    return own;
  };
  const data = (await Promise.all(within.map(found))).flat();
  const rank = ({ file }: { readonly file: string }) => DOCUMENTS.indexOf(file);
  const documents = (await found(root)).toSorted((a, b) => rank(a) - rank(b));
  return { data, documents };
}
