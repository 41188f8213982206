import { VERSION } from "../base/version.ts";

/** The answer to --version. */
export const version: string = `replica ${VERSION}`;
