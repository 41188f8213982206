import { afterEach, expect, test } from "bun:test";
import { resetSync } from "@logtape/logtape";
import { type Clock, realClock } from "../../src/base/clock.ts";
import { configureLogging } from "../../src/cli/terminal/logging.ts";
import { Metrics } from "../../src/monitor/metrics.ts";
import { serveHttpWhenFree } from "../../src/monitor/patient-http.ts";
import { replicaView } from "../../src/monitor/document/replica-view.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { Screen } from "../cli/commands/screen.ts";
import { errorOf, thrownBy } from "../support/error-of.ts";
import { fakePrimary } from "../support/fake-primary.ts";
import { follow } from "../support/following.ts";
import { freePort } from "../support/ports.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { around } from "../support/view.ts";

afterEach(() => resetSync());

/** A clock whose sleeps end when the test says so. */
class SteppedClock implements Clock {
  readonly sleeps: { readonly ms: number; readonly end: () => void }[] = [];
  now = () => realClock.now();
  monotonicMs = () => realClock.monotonicMs();
  random = () => realClock.random();
  sleep(ms: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.sleeps.push({ ms, end: resolve });
    signal.addEventListener("abort", () => resolve());
    return promise;
  }
}

/** A replica to show, and what is logged meanwhile. */
function shown() {
  const dir = tempDir("patient-http");
  const primary = fakePrimary((peer) => peer.closed);
  const replica = follow(primary.url, realDisk, dir);
  const metrics = new Metrics();
  metrics.of(replica.status, "1.2.3");
  const screen = new Screen();
  configureLogging({ level: "info", format: "text", output: screen.output });
  const clock = new SteppedClock();
  return {
    clock,
    lines: (about: RegExp) => screen.text.split("\n").filter((line) => about.test(line)),
    serve: (host: string, port: number) =>
      serveHttpWhenFree(
        { host, port, names: [] },
        metrics,
        replicaView(replica.status, around()),
        clock,
      ),
    [Symbol.asyncDispose]: async () => {
      await replica[Symbol.asyncDispose]();
      await primary.stop();
      dir.remove();
    },
  };
}

const WAITS = /warn .*can't serve HTTP on .*: the port is in use; .*not served until it is free/;

test("waits for a taken port, says so once, and says when it serves", async () => {
  await using replica = shown();
  const port = freePort();
  const holder = Bun.listen({ hostname: "127.0.0.1", port, socket: { data: () => undefined } });
  const stop = replica.serve("127.0.0.1", port);
  for (let tries = 0; tries < 3; tries++) {
    const sleep = await until(() => replica.clock.sleeps[tries], { what: "the next try" });
    expect(sleep.ms).toBe(5_000);
    sleep.end();
  }
  const next = await until(() => replica.clock.sleeps[3], { what: "the next try" });
  expect(replica.lines(WAITS)).toHaveLength(1);
  expect(replica.lines(/serving metrics/)).toEqual([]);
  holder.stop(true);
  next.end();
  await until(() => replica.lines(/info .*serving metrics and health at/)[0], { what: "it" });
  expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
  expect(replica.lines(WAITS)).toHaveLength(1);
  stop();
  expect(await thrownBy(fetch(`http://127.0.0.1:${port}/healthz`))).toThrow();
});

test("stops waiting with the replica", async () => {
  await using replica = shown();
  const port = freePort();
  using _ = Bun.listen({ hostname: "127.0.0.1", port, socket: { data: () => undefined } });
  const stop = replica.serve("127.0.0.1", port);
  await until(() => replica.clock.sleeps[0], { what: "the first wait" });
  stop();
  await Bun.sleep(10);
  expect(replica.clock.sleeps).toHaveLength(1);
});

test("an address that this machine doesn't have is an error at once", async () => {
  await using replica = shown();
  const error = errorOf(() => replica.serve("192.0.2.1", freePort()));
  expect(error).toMatchObject({ code: "LISTEN_FAILED" });
  expect(replica.clock.sleeps).toEqual([]);
});
