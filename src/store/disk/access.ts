import * as fs from "node:fs";
import { dirname } from "node:path";

/** What group and others may do, as a mode, with something that is written. The owner's bits are not part of it. */
export type Access = number;

export const NOBODY_ELSE: Access = 0;

/**
 * What group and others may do with what is written into `place` from something that `modes` show, so that nobody
 * gets to read it who couldn't before. Where it gets another group, nobody knows who is in both: then group and others
 * may do what both could.
 * @param gid the group of what is read.
 * @param newGid the group of what is written.
 */
export function notWider(modes: readonly number[], gid: number, newGid: number): Access {
  const allowed = modes.reduce((all, mode) => all & mode, 0o077);
  if (gid === newGid) return allowed;
  const both = allowed & (allowed >> 3) & 0o007;
  return (both << 3) | both;
}

/**
 * What group and others may do at most with what lies in `folder`: all, or nothing where they can't search it. Its
 * owner doesn't count, who can change that at any time.
 * @param newGid the group of what is written.
 */
export function withinReach(folder: Pick<fs.Stats, "mode" | "gid">, newGid: number): Access {
  const search = notWider([folder.mode], folder.gid, newGid) & 0o011;
  return search * 0o007;
}

/** The folders above `path`, links resolved: whoever can't search each of them doesn't get there. */
export function foldersAbove(path: string): string[] {
  const folders: string[] = [];
  for (let at = fs.realpathSync(path); at !== dirname(at);) folders.push((at = dirname(at)));
  return folders;
}

/** The group of a file that this process would create in `dir`. */
export function groupIn(dir: string): number {
  const { mode, gid } = fs.statSync(dir);
  const isInherited = (mode & 0o2000) !== 0;
  return isInherited ? gid : (process.getegid?.() ?? gid);
}
