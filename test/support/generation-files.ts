import { readlinkSync } from "node:fs";
import { basename, join } from "node:path";
import {
  CURRENT,
  filesOf,
  type GenerationFiles,
  generationPath,
} from "../../src/store/generation/layout.ts";

/** The files of one generation of a data directory. */
export function generationFiles(data: string, id: number): GenerationFiles {
  return filesOf({ id, dir: join(data, generationPath(id)) });
}

/** The files of the generation that `current` points at. */
export function currentFiles(data: string): GenerationFiles {
  return generationFiles(data, Number(basename(readlinkSync(join(data, CURRENT)))));
}
