/**
 * Makes docs/screenshots/ anew: six states of the status page in both themes.
 *
 *     bun run screenshots
 */
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { startBrowser } from "./browser.ts";
import { PAGE_STATES, PageServer } from "./page-states.ts";

/** As large as a document shows it. */
const VIEWPORT = { width: 1200, height: 930 };

const folder = join(import.meta.dir, "../../docs/screenshots");
mkdirSync(folder, { recursive: true });
await using browser = await startBrowser();
for (const [state, make] of Object.entries(PAGE_STATES)) {
  for (const colorScheme of ["light", "dark"] as const) {
    using server = new PageServer(make());
    const context = await browser.newContext({ colorScheme, viewport: VIEWPORT });
    const page = await context.newPage();
    await page.goto(server.url());
    await page.locator("#lag canvas").first().waitFor();
    const path = join(folder, `${state}-${colorScheme}.png`);
    await page.screenshot({ path });
    console.log(`${path}: ${statSync(path).size} bytes`);
    await context.close();
  }
}
