import { setDefaultTimeout } from "bun:test";
import { IS_FULL } from "./sweep.ts";
import { PATIENCE_MS } from "./wait.ts";

// Loaded before every test file (bunfig.toml); without --parallel, Bun forgets it after the first one.
// A wait gives up before its test does, so that it is told what it was for.
setDefaultTimeout(IS_FULL ? 4 * PATIENCE_MS : 1.2 * PATIENCE_MS);
