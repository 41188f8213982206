import { expect, test } from "bun:test";
import { notifyServiceManager, serviceStatusOf } from "../../src/monitor/service-manager.ts";
import { datagramsTo, unixAddress } from "../../src/monitor/unix-datagrams.ts";
import { fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { NotifySocket } from "../support/notify-socket.ts";
import { tempDir } from "../support/temp.ts";

test("retries unsent fields, and removes its variables from the environment", async () => {
  using dir = tempDir("notify");
  const primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: "a".repeat(40), offset: 0 });
  });
  await using following = follow(primary.url, new FaultyDisk(), dir);
  const env = { PATH: "/bin", NOTIFY_SOCKET: dir.file("notify"), WATCHDOG_PID: "1" };
  const stopping = new AbortController();
  const end = notifyServiceManager(env, serviceStatusOf(following.status), stopping.signal);
  expect<object>(env).toEqual({ PATH: "/bin" });
  using manager = new NotifySocket(dir.file("notify"));
  await manager.waitFor(/^READY=1$/);
  stopping.abort();
  end();
  const stopped = manager.fields();
  expect(stopped.slice(-2)).toEqual(["STOPPING=1", "STATUS=stopping"]);
  expect(stopped.filter((field) => field === "STOPPING=1")).toHaveLength(1);
  await primary.stop();
});

test("refuses paths that can't name a socket, and takes the longest that can", () => {
  for (const path of ["", "relative", "vsock:2:1234", "/a\0b", `/${"x".repeat(107)}`]) {
    expect([path, datagramsTo(path)]).toEqual([path, undefined]);
  }
  expect(unixAddress(`/${"x".repeat(106)}`)).toHaveLength(110);
  expect(unixAddress(`@${"x".repeat(107)}`)).toHaveLength(110);
});

test("sends a message whole or not at all", () => {
  using dir = tempDir("datagrams");
  const path = dir.file("socket");
  const send = datagramsTo(path);
  expect(send?.(Buffer.from("A=1\n"))).toBe(false);
  using manager = new NotifySocket(path);
  expect(send?.(Buffer.from("B=2\n"))).toBe(true);
  expect(manager.fields()).toEqual(["B=2"]);
  // Nobody reads: the socket takes some messages, then refuses instead of waiting.
  let taken = 0;
  while (send?.(Buffer.from("C=3\n")) === true) taken++;
  expect(taken).toBeGreaterThan(0);
  expect(manager.fields()).toHaveLength(1 + taken);
});
