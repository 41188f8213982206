import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import type { StatusDocument } from "../../src/monitor/browser/document.ts";
import { smallRdb, REPLID } from "../integration/bad-input-rig.ts";
import { hasBrowser, startBrowser } from "../support/browser.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import {
  documentOf,
  NOW_MS,
  PAGE_STATES,
  PageServer,
  type PageState,
} from "../support/page-states.ts";
import { Reporting } from "../support/supplied.ts";
import { IS_FULL } from "../support/sweep.ts";

const LIMIT_MS = 600_000;
/** How long the page may take for one step on a busy machine. */
const STEP_MS = 120_000;

const AXE = readFileSync(Bun.resolveSync("axe-core/axe.min.js", import.meta.dir), "utf8");
const STATES = Object.keys(PAGE_STATES) as PageState[];
const HOSTILE = `<img src=x onerror="document.title='taken'">'"&$(id)\`id\``;

/** What axe finds. */
interface AxeResults {
  readonly violations: readonly {
    readonly id: string;
    readonly nodes: readonly { readonly html: string }[];
  }[];
}

/** A page that is open, and what it did that it should not. */
interface Open extends AsyncDisposable {
  readonly page: Page;
  /** Errors of scripts, violations of the policy, and requests that went elsewhere. */
  readonly wrongs: string[];
}

describe.skipIf(!IS_FULL || !hasBrowser())("the page in a browser", () => {
  let browser: Browser & AsyncDisposable;
  beforeAll(async () => {
    browser = await startBrowser();
  }, LIMIT_MS);
  afterAll(() => browser[Symbol.asyncDispose]());

  async function open(url: string, options: BrowserContextOptions = {}): Promise<Open> {
    const context = await browser.newContext({
      viewport: { width: 1600, height: 1000 },
      ...options,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(STEP_MS);
    const wrongs: string[] = [];
    page.on("pageerror", (error) => wrongs.push(error.message));
    page.on("console", (message) => {
      const isNetwork = message.text().startsWith("Failed to load resource");
      if (message.type() === "error" && !isNetwork) wrongs.push(message.text());
    });
    page.on("request", (request) => {
      if (new URL(request.url()).host !== new URL(url).host) wrongs.push(request.url());
    });
    await page.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => {
        console.error(`violation: ${JSON.stringify(Reflect.get(event, "violatedDirective"))}`);
      });
    });
    await page.goto(url);
    return { page, wrongs, [Symbol.asyncDispose]: () => context.close() };
  }

  /** Waits until an element's text matches. */
  async function says(page: Page, selector: string, text: string): Promise<void> {
    await page.locator(selector).filter({ hasText: text }).waitFor();
  }

  const commandOf = async (page: Page) =>
    (await page.locator(".command code").first().textContent()) ?? "";

  for (const state of STATES) {
    test(
      `shows ${state} in both themes and widths; axe finds nothing, the policy is kept, nobody else is asked`,
      async () => {
        const document = PAGE_STATES[state]();
        using server = new PageServer(document);
        await using strict = await open(server.url());
        // axe brings scripts that the policy would not let in.
        await using lax = await open(server.url(), { bypassCSP: true });
        for (const { page } of [strict, lax]) {
          await says(page, "#state", document.headline.state);
          await says(page, "#ready", document.not_ready_reason ?? "Ready");
        }
        await lax.page.locator("#timeline details, #figures").evaluateAll((all) => {
          for (const one of all) one.setAttribute("open", "");
        });
        await lax.page.evaluate(AXE);
        for (const colorScheme of ["light", "dark"] as const) {
          for (const width of [400, 1600]) {
            for (const { page } of [strict, lax]) {
              await page.setViewportSize({ width, height: 900 });
              await page.emulateMedia({ colorScheme });
              await page.locator("#rates canvas").first().waitFor();
            }
            const wide = await strict.page.evaluate("document.documentElement.scrollWidth");
            expect([colorScheme, width, wide]).toEqual([colorScheme, width, width]);
            const found = (await lax.page.evaluate("axe.run()")) as AxeResults;
            const violations = found.violations.map(({ id, nodes }) => [
              id,
              nodes.map(({ html }) => html),
            ]);
            expect([colorScheme, width, violations]).toEqual([colorScheme, width, []]);
          }
        }
        expect(strict.wrongs).toEqual([]);
      },
      LIMIT_MS,
    );
  }

  test(
    "gives the command for a moment by pointer and by keys, and copies it",
    async () => {
      using server = new PageServer(documentOf());
      await using opened = await open(server.url());
      const { page } = opened;
      await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
      await says(page, "#moment-text", "The newest moment");
      const newest = new Date(NOW_MS - 1_000).toISOString().slice(0, 19);
      expect(await commandOf(page)).toBe(
        `replica restore /var/lib/replica/orders restored-${newest.replace(/[-:]/g, "")}Z --at ${newest}Z`,
      );
      await page.locator("#moment").focus();
      await page.keyboard.press("ArrowLeft");
      const before = new Date(NOW_MS - 2_000).toISOString().slice(0, 19);
      await says(page, ".command code >> nth=0", `--at ${before}Z`);
      await page.getByRole("button", { name: "From this disk" }).click();
      await says(page, "#announced", "copied");
      expect(await page.evaluate("navigator.clipboard.readText()")).toBe(await commandOf(page));
      // In the middle of the gap, which begins nine hours before the end.
      const track = page.locator(".track").first();
      const { width } = (await track.boundingBox())!;
      await track.click({ position: { x: width * (1 - 8.6 / 29), y: 5 } });
      await says(page, "#moment-text", "Nothing came from");
      const pinned = await commandOf(page);
      await track.hover({ position: { x: width * 0.1, y: 5 } });
      await says(page, "#moment-text", "from generation 13");
      expect(await commandOf(page)).not.toBe(pinned);
      await page.locator("h1").hover();
      await says(page, "#moment-text", "Nothing came from");
      expect(await commandOf(page)).toBe(pinned);
      // The archive has all of that.
      await says(page, ".command code >> nth=1", "replica restore s3://backups/orders");
      expect(opened.wrongs).toEqual([]);
    },
    LIMIT_MS,
  );

  test(
    "shows what peers say as text, wherever it stands",
    async () => {
      const shard = {
        ...PAGE_STATES.cluster().shards[0]!,
        shard: HOSTILE,
        primary: HOSTILE,
        slots: HOSTILE,
      };
      const document: StatusDocument = documentOf({
        name: HOSTILE,
        version: HOSTILE,
        directory: `/data/${HOSTILE}`,
        headline: { tone: "bad", state: HOSTILE, text: HOSTILE },
        ready: false,
        not_ready_reason: HOSTILE,
        events: [{ at_ms: NOW_MS, kind: HOSTILE, text: HOSTILE }],
        status: { last_error: HOSTILE, [HOSTILE]: HOSTILE },
        downstreams: [{ ...documentOf().downstreams[0]!, address: HOSTILE, state: HOSTILE }],
        shards: [shard],
      });
      using server = new PageServer(document);
      await using opened = await open(server.url());
      const { page } = opened;
      await page.locator("#figures summary").click();
      for (const place of [
        "#state",
        "#text",
        "#ready",
        "#about",
        "#events td >> nth=1",
        "#downstreams tbody th",
        "#shards a",
      ]) {
        await says(page, place, HOSTILE);
      }
      await says(page, "#figures table", HOSTILE);
      expect(await commandOf(page)).toContain(`'/data/${HOSTILE.replaceAll("'", `'\\''`)}'`);
      expect(await page.locator("body img, body script, body iframe, body [onerror]").count()).toBe(
        0,
      );
      expect(await page.title()).toBe(`replica: ${HOSTILE}`);
      await page.locator("#shards a").click();
      await page.waitForURL((url) => url.searchParams.get("shard") === HOSTILE);
      expect(opened.wrongs).toEqual([]);
    },
    LIMIT_MS,
  );

  test(
    "says since when it is out of date while nothing answers, and goes on by itself",
    async () => {
      using server = new PageServer(documentOf());
      await using opened = await open(server.url());
      const { page } = opened;
      await says(page, "#state", "following");
      server.stop();
      await says(page, "#stale", "No answer from the replica");
      await says(page, "#stale", "UTC, and may be out of date");
      expect(await page.title()).toBe("replica: no answer");
      server.document = PAGE_STATES.stale();
      server.resume();
      await says(page, "#state", "stale for 28 min");
      await page.locator("#stale:empty").waitFor({ state: "attached" });
      expect(await page.title()).toBe("replica: stale for 28 min");
      // It asks only for what it lacks.
      expect(server.asked.at(-1)).toBe(`all since ${NOW_MS - 5_000}`);
      await says(page, "#announced", "stale for 28 min, not ready");
      expect(opened.wrongs).toEqual([]);
    },
    LIMIT_MS,
  );

  test(
    "follows the system's theme while it is open",
    async () => {
      using server = new PageServer(documentOf());
      await using opened = await open(server.url(), { colorScheme: "light" });
      const background = () =>
        opened.page.evaluate("getComputedStyle(document.body).backgroundColor");
      await opened.page.locator("#rates canvas").first().waitFor();
      const light = await background();
      await opened.page.emulateMedia({ colorScheme: "dark" });
      expect(await background()).not.toBe(light);
      await opened.page.locator("#rates canvas").first().waitFor();
      expect(opened.wrongs).toEqual([]);
    },
    LIMIT_MS,
  );

  test(
    "has the state in words and all figures where no script runs",
    async () => {
      using server = new PageServer(PAGE_STATES.stale());
      await using opened = await open(server.url(), { javaScriptEnabled: false });
      await says(opened.page, "#state", "stale for 28 min");
      await says(opened.page, "#ready", "connection refused");
      await says(opened.page, "#figures", "durable_offset");
    },
    LIMIT_MS,
  );

  test(
    "shows a real replica, whose hostile primary goes away",
    async () => {
      await using primary = fakePrimary(async (peer) => {
        if (peer.index > 0) return await peer.send(`-ERR ${HOSTILE}\r\n`);
        await standardHandshake(peer, { replid: REPLID, offset: 100 });
        await peer.send(bulkPayload(smallRdb("a value")));
      });
      await using replica = new Reporting(primary.url);
      await replica.following.connected();
      await using opened = await open(replica.pageUrl);
      const { page } = opened;
      await says(page, "#state", "following");
      await says(page, "#events table", "full resync");
      await primary.peers[0]!.close();
      await says(page, "#state", "stale for");
      await says(page, "#ready", HOSTILE);
      expect(opened.wrongs).toEqual([]);
    },
    LIMIT_MS,
  );
});
