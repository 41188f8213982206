import { expect, test } from "bun:test";
import { realClock } from "../../../src/base/clock.ts";
import { follow } from "../../../src/cli/commands/follow.ts";
import { Output } from "../../../src/cli/terminal/output.ts";
import { loadSettings } from "../../../src/config/load-settings.ts";
import { freePort } from "../../support/ports.ts";
import { tempDir } from "../../support/temp.ts";

test("survives a SIGUSR1 during the start", async () => {
  using dir = tempDir("starting");
  const flags = { dir: dir.file("data"), port: "0", http: `127.0.0.1:${freePort()}` };
  const settings = loadSettings({ flags: new Map(Object.entries(flags)), env: {} });
  const silent = new Output({ sink: () => undefined, isTty: false });
  const stopping = new AbortController();
  const ended = follow({
    settings,
    args: [`redis://127.0.0.1:${freePort()}`],
    options: new Map(),
    env: {},
    clock: realClock,
    signal: stopping.signal,
    stdout: silent,
    stderr: silent,
  });
  // Without a listener, SIGUSR1 would end this test process too.
  expect(process.listenerCount("SIGUSR1")).toBe(1);
  process.kill(process.pid, "SIGUSR1");
  stopping.abort();
  expect(await ended).toBe(0);
  expect(process.listenerCount("SIGUSR1")).toBe(0);
});
