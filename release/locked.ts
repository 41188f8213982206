import { join } from "node:path";

export const projectDir = join(import.meta.dir, "..");

/** A package in package-lock.json. */
export interface LockedPackage {
  readonly version: string;
  readonly integrity: string;
  readonly dev?: boolean;
}

/** The packages of package-lock.json by their paths below the project: `node_modules/zod`. */
export async function lockedPackages(): Promise<ReadonlyMap<string, LockedPackage>> {
  const lock: { packages: Record<string, LockedPackage> } = await Bun.file(
    join(projectDir, "package-lock.json"),
  ).json();
  return new Map(Object.entries(lock.packages).filter(([path]) => path !== ""));
}
