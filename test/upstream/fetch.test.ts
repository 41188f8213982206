import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { reasonOf } from "../support/error-of.ts";
import { realClock } from "../../src/base/clock.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import { parsePrimaryUrl } from "../../src/config/primary-url.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { SnapshotFetch } from "../../src/upstream/fetch.ts";
import { PrimaryLogin } from "../../src/upstream/link/primary-login.ts";
import { FileOutlet } from "../../src/upstream/outlet.ts";
import { REPLID } from "../integration/bad-input-rig.ts";
import { fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

test("a stop gives up the snapshot at once: nothing can take its name any more", async () => {
  using dir = tempDir("fetch");
  await using primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await peer.send("$1000\r\nREDIS0011");
  });
  const settings = loadSettings({ flags: new Map(), env: {} });
  const surroundings = { disk: realDisk, clock: realClock, settings };
  const target = parsePrimaryUrl(primary.url);
  const login = new PrimaryLogin(target, settings);
  const fetching = new SnapshotFetch(target, { ...surroundings, login });
  const stop = new AbortController();
  const place = async () => ({ path: dir.file("dump.rdb") });
  const run = fetching.run((keeping) => new FileOutlet(place, surroundings, keeping), stop.signal);
  run.catch(() => undefined);
  await until(() => fetching.state.at === "transfer", { what: "the payload" });
  expect(fs.readdirSync(dir.path)).toEqual([expect.stringMatching(/^temp-/)]);
  stop.abort();
  expect(fetching.state.at).toBe("none");
  expect(fs.readdirSync(dir.path)).toEqual([]);
  expect(await reasonOf(run)).toMatchObject({ code: "STOPPED" });
});
