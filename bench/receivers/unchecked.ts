import { loadSettings } from "../../src/config/load-settings.ts";
import { parsePrimaryUrl } from "../../src/config/primary-url.ts";
import { backup } from "../../src/upstream/backup.ts";
import { realClock } from "../../src/base/clock.ts";
import { realDisk } from "../../src/store/disk/disk.ts";

/** `unchecked URL OUT IO`: `replica backup` without the checksum, to show what that costs. */
const [url = "", out = "", io = "auto"] = process.argv.slice(2);
const settings = loadSettings({ flags: new Map([["io", io]]), env: {} });
const never = new AbortController().signal;
const surroundings = {
  disk: realDisk,
  clock: realClock,
  settings,
  checksum: false,
  replaces: true,
};
// No top-level await, because this is compiled to bytecode like the program.
void backup(parsePrimaryUrl(url), out, surroundings, never, () => undefined).then(() =>
  process.exit(0),
);
