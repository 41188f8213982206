import { expect, spyOn, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { fakePrimary } from "../../support/fake-primary.ts";
import { follow } from "../../support/following.ts";
import { Downstream } from "../../support/relaying.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import { LoginAllowance, LoginThrottle, networkOf } from "../../../src/port/clients/logins.ts";

test("a client without a login may send a hundred commands, and 128 KiB with what waits", () => {
  const login = new LoginAllowance(true);
  for (let n = 0; n < 100; n++) expect(login.answered()).toBe(false);
  expect(login.isExceeded(1024 * 1024)).toBe(false);
  login.read(1);
  expect(login.isExceeded(128 * 1024 - 1)).toBe(false);
  expect(login.isExceeded(128 * 1024)).toBe(true);
  expect(login.answered()).toBe(true);
  expect(login.isExceeded(0)).toBe(true);
  login.logIn();
  expect([login.answered(), login.isExceeded(1024 * 1024)]).toEqual([false, false]);
  login.reset();
  expect([login.isLoggedIn, login.isExceeded(1024 * 1024)]).toEqual([false, false]);
});

test("RESET gives a client that has not logged in nothing anew", () => {
  const login = new LoginAllowance(true);
  for (let n = 0; n < 100; n++) {
    expect(login.answered()).toBe(false);
    login.reset();
  }
  expect(login.answered()).toBe(true);
  const free = new LoginAllowance(false);
  free.reset();
  expect(free.isLoggedIn).toBe(true);
});

function fail(logins: LoginThrottle, host: string, times: number, nowMs = 0) {
  return Array.from({ length: times }, () => logins.failed(host, nowMs));
}

test("after ten wrong passwords within ten seconds, logins from there wait, until those are over", () => {
  const logins = new LoginThrottle();
  expect(fail(logins, "a", 12, 5_000)).toEqual([
    ...Array(9).fill(undefined),
    "network",
    undefined,
    undefined,
  ]);
  expect([logins.waitMs("a", 5_000), logins.isSuspect("a", 5_000)]).toEqual([1_000, true]);
  expect([logins.waitMs("b", 5_000), logins.isSuspect("b", 5_000)]).toEqual([0, false]);
  expect(logins.waitMs("a", 14_999)).toBe(1_000);
  expect([logins.waitMs("a", 15_000), logins.isSuspect("a", 15_000)]).toEqual([0, false]);
  // A clock that was set back holds nobody up either.
  fail(logins, "a", 10, 15_000);
  expect(logins.waitMs("a", 15_000)).toBe(1_000);
  expect(logins.waitMs("a", 1_000)).toBe(0);
});

test("after a hundred from anywhere, logins from everywhere wait, but from where the right password came", () => {
  const logins = new LoginThrottle();
  logins.succeeded("home");
  const told = Array.from({ length: 100 }, (_, n) => logins.failed(`10.0.${n}.1`, 0));
  expect(told.map((one, n) => one && [n, one]).filter(Boolean)).toEqual([[99, "all"]]);
  expect([logins.waitMs("elsewhere", 0), logins.isSuspect("elsewhere", 0)]).toEqual([1_000, false]);
  expect(logins.waitMs("home", 0)).toBe(0);
  // One that guesses there is held up for all that.
  fail(logins, "home", 10);
  expect(logins.waitMs("home", 0)).toBe(1_000);
  expect(logins.waitMs("elsewhere", 10_000)).toBe(0);
});

test("answers a hundred waiting logins a second, however many there are", () => {
  const logins = new LoginThrottle();
  fail(logins, "a", 10);
  const ends: (() => void)[] = [];
  for (let n = 0; n < 100; n++) {
    expect(logins.waitMs("a", 0)).toBe(1_000);
    ends.push(logins.wait());
  }
  for (let n = 100; n < 1_000; n++) ends.push(logins.wait());
  expect(logins.waitMs("a", 0)).toBe(10_010);
  for (const end of ends) end();
  expect(logins.waitMs("a", 0)).toBe(1_000);
});

test("remembers a thousand networks, and of more the latest", () => {
  const logins = new LoginThrottle();
  for (let n = 0; n < 1_001; n++) {
    fail(logins, `host ${n}`, 10);
    logins.succeeded(`home ${n}`);
  }
  expect(logins.isSuspect("host 0", 0)).toBe(false);
  expect(logins.isSuspect("host 1", 0)).toBe(true);
  expect(logins.isSuspect("host 1000", 0)).toBe(true);
  expect([logins.waitMs("home 0", 0), logins.waitMs("home 1", 0)]).toEqual([1_000, 0]);
});

test("takes a network for one guesser: 64 bits of IPv6, and all of this machine", () => {
  const own = () => new Set(["192.0.2.7"]);
  for (const [host, network] of [
    ["10.0.0.1", "10.0.0.1"],
    ["[::ffff:10.0.0.1]", "10.0.0.1"],
    ["127.0.0.1", "this machine"],
    ["127.9.8.7", "this machine"],
    ["[::ffff:127.9.8.7]", "this machine"],
    ["[::1]", "this machine"],
    ["192.0.2.7", "this machine"],
    ["[2001:db8:1:2:3:4:5:6]", "2001:db8:1:2"],
    ["[2001:db8:1:2::6]", "2001:db8:1:2"],
    ["[2001:db8::6]", "2001:db8:0:0"],
    ["[fe80::1%eth0]", "fe80:0:0:0"],
  ]) {
    expect([host, networkOf(host!, own)]).toEqual([host, network!]);
  }
});

test("a login that waits ends once, also where the port cuts its connection off", async () => {
  using dir = tempDir("logins");
  writeFileSync(dir.file("own"), "sesame");
  await using primary = fakePrimary(async (peer) => await peer.closed);
  const flags = { "requirepass-file": dir.file("own") };
  await using replica = follow(primary.url, realDisk, dir, flags);
  using waitMs = spyOn(LoginThrottle.prototype, "waitMs").mockReturnValue(60_000);
  const ended: number[] = [];
  using waits = spyOn(LoginThrottle.prototype, "wait").mockImplementation(() => {
    const index = ended.push(0) - 1;
    return () => void ended[index]!++;
  });
  await using client = await Downstream.connect(replica.port);
  client.say("AUTH", "wrong");
  await until(() => waits.mock.calls.length === 1, { what: "the login to wait" });
  client.write("x".repeat(1_000_000));
  await client.closed();
  await until(() => ended[0]! > 0, { what: "its end" });
  await using other = await Downstream.connect(replica.port);
  other.say("AUTH", "wrong");
  await until(() => waits.mock.calls.length === 2, { what: "another login to wait" });
  expect(waitMs).toHaveBeenCalledTimes(2);
  expect(ended).toEqual([1, 0]);
});
