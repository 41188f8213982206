import { logger } from "../../base/logger.ts";
import { Catalogue, cutShortNote, isGone } from "../../store/restore/catalogue.ts";
import type { Damage } from "../../store/restore/damage.ts";
import type { KeptGeneration } from "../../store/restore/kept-generation.ts";
import {
  type GenerationFindings,
  verifyCatalogue,
  verifyGeneration,
  type VerifyOptions,
} from "../../store/restore/verify.ts";

const LOOKS = 5;
const LOOK_EVERY_MS = 200;

/** All that checking a data directory found. */
export interface DirectoryFindings {
  readonly path: string;
  readonly found: readonly GenerationFindings[];
  readonly damages: readonly Damage[];
  /** What looks like damage, and isn't. */
  readonly notes: readonly string[];
}

/**
 * Checks everything in a data directory, also while a replica runs on it: damage is part of the result.
 * @throws ReplicaError USAGE for a folder that is no data directory, DIRECTORY_DAMAGED for a database that can't be read,
 * DISK_FAILED; the signal's reason.
 */
export async function verifyDirectory(
  path: string,
  surroundings: VerifyOptions,
): Promise<DirectoryFindings> {
  const { damages, notes } = await lastingFindings(path, surroundings.signal);
  using catalogue = new Catalogue(path);
  const found: GenerationFindings[] = [];
  for (const generation of catalogue.generations) {
    const findings = await findingsOf(catalogue, generation, surroundings);
    if (findings === undefined) {
      logger.info(`generation ${generation.id} was removed in the meantime`);
      continue;
    }
    found.push(findings);
    damages.push(...findings.damages);
  }
  return { path: catalogue.path, found, damages, notes };
}

/** What is wrong, or worth telling, for good. While a generation becomes current, its link briefly precedes its row. */
async function lastingFindings(
  path: string,
  signal: AbortSignal,
): Promise<{ damages: Damage[]; notes: string[] }> {
  for (let left = LOOKS; ; left--) {
    using catalogue = new Catalogue(path);
    const damages = await verifyCatalogue(catalogue, signal);
    const notes = [cutShortNote(catalogue) ?? []].flat();
    if (damages.length + notes.length === 0 || left === 0) return { damages, notes };
    await Bun.sleep(LOOK_EVERY_MS);
  }
}

/** Undefined if a running replica has removed the generation in the meantime. */
async function findingsOf(
  catalogue: Catalogue,
  generation: KeptGeneration,
  surroundings: VerifyOptions,
): Promise<GenerationFindings | undefined> {
  try {
    const findings = await verifyGeneration(catalogue, generation, surroundings);
    if (findings.damages.length === 0 || !isGone(catalogue.path, generation.id)) return findings;
  } catch (error) {
    if (surroundings.signal.aborted || !isGone(catalogue.path, generation.id)) throw error;
  }
  return undefined;
}
