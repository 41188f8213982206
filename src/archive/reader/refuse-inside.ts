import * as fs from "node:fs";
import { sep } from "node:path";
import { usageError } from "../../base/errors.ts";
import type { RestoreTarget } from "../../store/restore/restore-target.ts";

const FILE = "file://";

/** Refuses a target in an archive's own folder. @throws ReplicaError USAGE. */
export function refuseInArchive(url: string, { path, realPath }: RestoreTarget): void {
  if (!url.startsWith(FILE)) return;
  const root = fs.realpathSync(url.slice(FILE.length));
  if (realPath !== root && !realPath.startsWith(root + sep)) return;
  throw usageError(`${path} lies in the archive ${root}: name a folder outside of it`);
}
