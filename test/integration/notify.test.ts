import { describe, expect, test } from "bun:test";
import { EmbeddedPrimary } from "../../src/demo/primary.ts";
import { NotifySocket } from "../support/notify-socket.ts";
import { freePort } from "../support/ports.ts";
import { startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";

/** The index of the first match of each pattern. */
function places(fields: readonly string[], patterns: readonly RegExp[]): number[] {
  return patterns.map((pattern) => fields.findIndex((field) => pattern.test(field)));
}

describe("the service manager", () => {
  for (const [binary, kind] of [
    ["source", "path"],
    ["source", "abstract name"],
    ["compiled", "path"],
    ["compiled", "abstract name"],
  ] as const) {
    test(`learns of ready, connected, alive, stopping: ${binary}, socket by ${kind}`, async () => {
      using dir = tempDir("notify");
      const path = kind === "path" ? dir.file("notify") : `@replica-test-${crypto.randomUUID()}`;
      using manager = new NotifySocket(path);
      const primary = await EmbeddedPrimary.start({
        seed: 1,
        keys: 10,
        valueBytes: 10,
        payloadForm: "length",
        backlogBytes: 1024 * 1024,
        writesPerSecond: 10,
      });
      try {
        await using replica = startReplica(
          ["follow", primary.url, "--dir", dir.file("data"), "--port", "0"],
          { binary, env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: "3000000" } },
        );
        await manager.waitFor(/^STATUS=connected, redis:\/\/127\.0\.0\.1:\d+, durable up to/);
        await manager.waitFor(/^WATCHDOG=1$/);
        expect((await replica.stop()).exitCode).toBe(0);
        // The watchdog's turns and the status each have their own second.
        for (const between of [/^STATUS=connected/, /^WATCHDOG=1$/]) {
          const found = places(manager.fields(), [/^READY=1$/, between, /^STOPPING=1$/]);
          expect(found).not.toContain(-1);
          expect(found).toEqual(found.toSorted((a, b) => a - b));
        }
        expect(manager.fields().filter((field) => field === "READY=1")).toHaveLength(1);
        expect(manager.fields().filter((field) => field === "STOPPING=1")).toHaveLength(1);
        expect(replica.stderr).not.toContain("service manager");
      } finally {
        primary.stop();
      }
    });
  }

  test("learns of ready without a primary, of a stop by a client, and of no password", async () => {
    using dir = tempDir("notify-away");
    using manager = new NotifySocket(dir.file("notify"));
    const url = `redis://someone:not-to-be-told@127.0.0.1:${freePort()}`;
    const flags = ["--dir", dir.file("data"), "--port", "0", "--unprotected"];
    await using replica = startReplica(["follow", url, ...flags], {
      // The watchdog is for another process.
      env: { NOTIFY_SOCKET: dir.file("notify"), WATCHDOG_USEC: "2000", WATCHDOG_PID: "1" },
    });
    await manager.waitFor(/^READY=1$/);
    await manager.waitFor(/^STATUS=connect, redis:\/\/someone@127\.0\.0\.1:\d+, nothing kept yet$/);
    const serving = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
    await using client = await RespClient.connect({ port: Number(serving[1]) });
    await client.write("SHUTDOWN\r\n");
    expect((await replica.ended()).exitCode).toBe(0);
    expect(manager.fields()).toContain("STOPPING=1");
    expect(manager.fields().join()).not.toContain("not-to-be-told");
    expect(manager.fields()).not.toContain("WATCHDOG=1");
  });

  test("is reported as missing once, and the replica follows", async () => {
    using dir = tempDir("notify-nobody");
    const path = dir.file("nobody");
    await using replica = startReplica(
      ["follow", `redis://127.0.0.1:${freePort()}`, "--dir", dir.file("data"), "--port", "0"],
      { env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: "10000" } },
    );
    await replica.waitForLine(/nothing listens|next attempt in/);
    expect((await replica.stop()).exitCode).toBe(0);
    const warnings = replica.stderr.match(/can't notify the service manager at [^\s:]+/g);
    expect(warnings).toEqual([`can't notify the service manager at ${path}`]);
  });
});
