import { describe, expect, test } from "bun:test";
import { limits } from "../../src/config/limits.ts";
import { ASSETS } from "../../src/monitor/assets.ts";
import type { StatusDocument } from "../../src/monitor/browser/document.ts";
import { infoToJson } from "../../src/cli/status/info-json.ts";
import { smallRdb, REPLID } from "../integration/bad-input-rig.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { documentOf, PAGE_STATES, PageServer } from "../support/page-states.ts";
import { Reporting } from "../support/supplied.ts";
import { until } from "../support/wait.ts";

const LIMIT_MS = 150_000;
/** What the page and all that it loads may have together, as they are sent. */
const MOST_BYTES = 150_000;

test("the page with scripts, style and charts has less than 150 kB", async () => {
  using server = new PageServer(documentOf());
  const page = await (await fetch(server.url())).text();
  let bytes = Buffer.byteLength(page);
  for (const { path, type } of ASSETS) {
    const response = await fetch(server.url(path));
    expect([path, response.status, response.headers.get("content-type")]).toEqual([
      path,
      200,
      type,
    ]);
    bytes += (await response.bytes()).length;
  }
  expect(bytes).toBeLessThan(MOST_BYTES);
  // All that it names comes from here.
  const named = [...page.matchAll(/(?:src|href)="([^"]*)"/g)].map((match) => match[1]);
  for (const path of named) expect(ASSETS.map((asset) => asset.path)).toContain(path!);
});

test("every script that a script imports is served, and none has markup, an inline style or a foreign address", () => {
  const scripts = ASSETS.filter(({ path }) => path.endsWith(".ts"));
  expect(scripts.length).toBeGreaterThan(5);
  const paths = ASSETS.map(({ path }) => path);
  for (const { path, text } of scripts) {
    for (const [, name] of text().matchAll(/from ?"\.\/([\w-]+\.ts)"/g))
      expect(paths).toContain(`/page/${name}`);
    expect([
      path,
      text().match(/innerHTML|insertAdjacentHTML|document\.write|eval\(|https?:/),
    ]).toEqual([path, null]);
  }
});

test("the policy lets nothing in from elsewhere, and the words are there without a script", async () => {
  for (const [name, make] of Object.entries(PAGE_STATES)) {
    const document = make();
    using server = new PageServer(document);
    const response = await fetch(server.url());
    const policy = response.headers.get("content-security-policy") ?? "";
    expect(policy).toStartWith("default-src 'none'; script-src 'self'; style-src 'self'");
    expect(policy).not.toContain("unsafe");
    const page = await response.text();
    expect([name, page.includes(Bun.escapeHTML(document.headline.state))]).toEqual([name, true]);
    expect(page).toContain(Bun.escapeHTML(document.not_ready_reason ?? "Ready"));
    expect(page).not.toMatch(/<script>|<style|style=|\son\w+=/);
  }
});

describe("/status.json", () => {
  test(
    "tells of a replica that follows what status, timeline, events and downstreams are",
    async () => {
      await using primary = fakePrimary(async (peer) => {
        await standardHandshake(peer, { replid: REPLID, offset: 100 });
        await peer.send(bulkPayload(smallRdb("a value")));
      });
      await using replica = new Reporting(
        `${primary.url.replace("redis://", "redis://:se-cret@")}`,
      );
      await replica.following.connected();
      const read = async () =>
        JSON.parse((await replica.get("/status.json")).text) as StatusDocument;
      const document = await until(
        async () => {
          const told = await read();
          return told.ready ? told : undefined;
        },
        { what: "a document that says ready" },
      );
      expect(document).toMatchObject({
        format: 1,
        kind: "replica",
        version: "1.2.3",
        name: primary.url,
        directory: replica.following.path,
        archive: null,
        headline: { tone: "good", state: "following" },
        not_ready_reason: null,
        downstreams: [],
        shards: [],
        timeline: { archived_ms: null, gaps: [] },
      });
      expect(document.timeline.generations).toMatchObject([
        { id: 1, state: "current", from_offset: 100, to_offset: 100, archived: "none" },
      ]);
      expect(document.events.map(({ kind }) => kind)).toContain("full-resync");
      expect(JSON.stringify(document)).not.toContain("se-cret");
      // The same facts, by the same names, as `replica status --json`.
      const info = infoToJson(await replica.info());
      for (const [name, value] of Object.entries(document.status)) {
        if (/seconds|time|free_bytes|per_second/.test(name))
          expect(typeof value).toBe(typeof info[name]);
        else expect([name, value]).toEqual([name, info[name] as number]);
      }
      await primary.peers[0]!.close();
    },
    LIMIT_MS,
  );

  test(
    "of a shard that isn't there is 404, with samples only after a moment, and never kept by a cache",
    async () => {
      using server = new PageServer(documentOf());
      const response = await fetch(server.url("/status.json?since=17&shard=0001"));
      expect(response.headers.get("cache-control")).toBe("no-store");
      expect(response.headers.get("content-type")).toStartWith("application/json");
      await fetch(server.url("/status.json?since=nonsense"));
      expect(server.asked).toEqual(["0001 since 17", "all since 0"]);
      await using primary = fakePrimary((peer) => peer.closed);
      await using replica = new Reporting(primary.url);
      expect((await replica.get("/status.json?shard=0001")).status).toBe(404);
    },
    LIMIT_MS,
  );

  test("is of bounded size, whatever has happened", () => {
    const worst = limits.fineSamples + limits.minuteSamples;
    // Eight columns of at most 13 digits, and events of a thousand characters.
    expect(worst * 8 * 14 + limits.shownEvents * 1_100).toBeLessThan(400_000);
  });
});
