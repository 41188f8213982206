import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Browser, chromium } from "playwright-core";
import { fetched, readStamp } from "./server-catalog.ts";
import { type TempDir, tempDir } from "./temp.ts";

/** Names that a machine's own browser may have. */
const NAMES = ["chromium", "chromium-browser", "google-chrome"];

/** It draws in software, asks nobody for anything, and keeps nothing. */
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
  // Its own processes are then started by the command below too.
  "--no-zygote",
];

/** How long the start of a browser may take on a busy machine. */
const START_MS = 120_000;

/** Whether its tests run: where there is a browser, and in CI in any case, so that they fail where none could be had. */
export function hasBrowser(): boolean {
  if (process.env["CI"] === "true") return true;
  return NAMES.some((name) => Bun.which(name) !== null) || readStamp("chromium") !== undefined;
}

/** A Chromium without a window, with a folder of its own; the machine's, or the one that was fetched. */
export async function startBrowser(): Promise<Browser & AsyncDisposable> {
  const dir = tempDir("browser");
  const browser = await chromium.launch({
    executablePath: executable(dir),
    headless: true,
    args: ARGUMENTS,
    timeout: START_MS,
    env: {
      PATH: "/usr/bin:/bin",
      HOME: dir.path,
      TMPDIR: dir.path,
      FONTCONFIG_FILE: dir.file("fonts.conf"),
    },
  });
  return Object.assign(browser, {
    [Symbol.asyncDispose]: async () => {
      await browser.close();
      dir.remove();
    },
  });
}

/** The program to start. What was fetched runs through its own loader, and so must each process that it starts. */
function executable(dir: TempDir): string {
  const own = NAMES.map((name) => Bun.which(name)).find((path) => path !== null);
  const fonts = ["/usr/share/fonts", "/usr/local/share/fonts"];
  if (own !== undefined && own !== null) {
    writeFonts(dir, fonts);
    return own;
  }
  const { dir: root, stamp } = fetched("chromium");
  writeFonts(dir, [join(root, "usr/share/fonts")]);
  const command = dir.file("chromium");
  const libraries = stamp.libraryPaths.map((path) => join(root, path)).join(":");
  const home = join(root, "usr/lib/chromium");
  writeFileSync(
    command,
    `#!/bin/sh
exec '${home}/loader' --library-path '${libraries}' '${home}/chromium-headless-shell' --browser-subprocess-path='${command}' "$@"
`,
  );
  chmodSync(command, 0o755);
  return command;
}

/** Text looks the same wherever the same fonts are. */
function writeFonts(dir: TempDir, folders: readonly string[]): void {
  const lines = folders.map((path) => `<dir>${path}</dir>`).join("");
  const cache = `<cachedir>${dir.file("font-cache")}</cachedir>`;
  const mono =
    "<alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>";
  writeFileSync(dir.file("fonts.conf"), `<fontconfig>${lines}${mono}${cache}</fontconfig>\n`);
}
