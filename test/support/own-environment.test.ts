import { expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { folderOf } from "./path.ts";
import { tempDir } from "./temp.ts";

/** What a process sees that loads what every test file loads, started in this environment. */
function seenIn(environment: Record<string, string>): unknown {
  const tell = `console.log(JSON.stringify({
    ...process.env,
    umask: process.umask(),
    time: new Date(0).toString(),
    folder: require("node:os").tmpdir(),
  }));`;
  const preload = join(import.meta.dir, "own-environment.ts");
  const argv = [process.execPath, "--preload", preload, "-e", tell];
  return JSON.parse(Bun.spawnSync(argv, { env: environment }).stdout.toString());
}

test("what whoever starts the tests has exported reaches none of them", () => {
  const kept = {
    PATH: "/bin",
    HOME: "/home/nobody",
    TEST_SWEEPS: "1",
    CRASH_KILLS: "3",
    CI: "true",
  };
  const settled = { TZ: "UTC", LC_ALL: "C", umask: 0o022 };
  const time = "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)";
  const umask = process.umask(0o077);
  try {
    expect(
      seenIn({
        ...kept,
        TMPDIR: "/var/tmp",
        TZ: "Asia/Kolkata",
        LANG: "de_DE.UTF-8",
        LC_ALL: "de_DE.UTF-8",
        LC_COLLATE: "de_DE.UTF-8",
        REPLICA_FSYNC: "no",
        REPLICA_PASSWORD: "secret",
        REPLICA_TEST_SERVERS: "/servers",
        REDISCLI_AUTH: "secret",
        FORCE_COLOR: "1",
        NO_COLOR: "1",
        TERM: "dumb",
        http_proxy: "http://127.0.0.1:1",
        HTTPS_PROXY: "http://127.0.0.1:1",
        NOTIFY_SOCKET: "/run/notify",
        WATCHDOG_USEC: "1000",
        NODE_ENV: "production",
      }),
    ).toEqual({
      ...kept,
      ...settled,
      TMPDIR: "/var/tmp",
      REPLICA_TEST_SERVERS: "/servers",
      time,
      folder: "/var/tmp",
    });
    // A socket's path would not fit behind it.
    const folder = { TMPDIR: "/tmp", folder: "/tmp" };
    const long = `/tmp/${"long".repeat(10)}`;
    expect(seenIn({ ...kept, TMPDIR: long })).toEqual({ ...kept, ...settled, ...folder, time });
  } finally {
    process.umask(umask);
  }
});

test("a folder of programs holds those that are named, and no others", () => {
  using dir = tempDir();
  const folder = folderOf(dir, ["sh", "dirname"]);
  const run = (script: string) =>
    Bun.spawnSync([join(folder, "sh"), "-c", script], { env: { PATH: folder } });
  expect(run("dirname /a/b").stdout.toString()).toBe("/a\n");
  expect(run("basename /a/b").exitCode).toBe(127);
  mkdirSync(dir.file("other"));
  expect(() => folderOf(dir, ["no-such-program"], "more")).toThrow(
    "this machine has no no-such-program on the PATH",
  );
});
