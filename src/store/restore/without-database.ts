import * as fs from "node:fs";
import { join } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { replicationAux } from "../../rdb/header.ts";
import { selectCommand } from "../../resp/encode.ts";
import { linkTarget } from "../generation/current-link.ts";
import { filesOf, generationIds, generationPath, offsetOfByte } from "../generation/layout.ts";
import type { Damage } from "./damage.ts";
import type { KeptGeneration } from "./kept-generation.ts";
import { headerOf } from "./rdb-header.ts";

/**
 * Reads a data directory whose database is lost: the aux fields of the snapshots and the lengths of the
 * files tell enough for a restore by offset.
 * @returns the generations, oldest first, and the snapshots whose header can't be read.
 */
export function generationsFromFiles(path: string): {
  generations: KeptGeneration[];
  unreadable: Damage[];
} {
  const ids = generationIds(path).filter((id) => {
    const { base, log } = filesOf({ id, dir: join(path, generationPath(id)) });
    return fs.existsSync(base) && fs.existsSync(log);
  });
  const current = currentId(path) ?? ids.at(-1);
  const generations: KeptGeneration[] = [];
  const unreadable: Damage[] = [];
  for (const id of ids) {
    try {
      generations.push(generationFromFiles(path, id, id === current));
    } catch (error) {
      if (!(error instanceof ReplicaError && error.code === "BAD_PAYLOAD")) throw error;
      const file = filesOf({ id, dir: join(path, generationPath(id)) }).base;
      const meaning = "nothing of this generation can be restored";
      unreadable.push({ file, byte: undefined, what: error.message, meaning });
    }
  }
  return { generations, unreadable };
}

function currentId(path: string): number | undefined {
  const id = /(\d{10})\/?$/.exec(linkTarget(path) ?? "")?.[1];
  return id === undefined ? undefined : Number(id);
}

function generationFromFiles(path: string, id: number, isCurrent: boolean): KeptGeneration {
  const dir = join(path, generationPath(id));
  const { base, log } = filesOf({ id, dir });
  const { streamDb, position } = replicationAux(headerOf(base));
  const beginning = {
    baseOffset: position?.offset ?? 0,
    logHeaderBytes: selectCommand(streamDb).length,
  };
  const logBytes = fs.statSync(log).size;
  return {
    ...beginning,
    id,
    dir,
    state: isCurrent ? "current" : "sealed",
    sealedReason: undefined,
    primaryName: undefined,
    streamDb,
    rdbBytes: fs.statSync(base).size,
    rdbCrc64: undefined,
    rdbChecked: false,
    durableOffset: Math.max(beginning.baseOffset, offsetOfByte(beginning, logBytes)),
    first: undefined,
    last: undefined,
    replicationIds:
      position === undefined ? [] : [{ replid: position.replid, fromOffset: position.offset }],
  };
}
