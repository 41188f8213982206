import { expect, test } from "bun:test";
import { LoginAllowance, LoginThrottle } from "../../src/port/logins.ts";

test("the tenth wrong password within ten seconds locks an address out until those are over", () => {
  const logins = new LoginThrottle();
  const told: boolean[] = [];
  for (let n = 0; n < 12; n++) {
    expect(logins.allows("a", 5_000)).toBe(n < 10);
    told.push(logins.failed("a", 5_000));
  }
  expect(told.indexOf(true)).toBe(9);
  expect(told.lastIndexOf(true)).toBe(9);
  expect(logins.allows("b", 5_000)).toBe(true);
  expect(logins.allows("a", 14_999)).toBe(false);
  expect(logins.allows("a", 15_000)).toBe(true);
  // A clock that was set back locks nobody out either.
  for (let n = 0; n < 10; n++) logins.failed("a", 15_000);
  expect(logins.allows("a", 15_000)).toBe(false);
  expect(logins.allows("a", 1_000)).toBe(true);
});

test("forgets the oldest address once it remembers a thousand", () => {
  const logins = new LoginThrottle();
  const lock = (host: string) => {
    for (let n = 0; n < 10; n++) logins.failed(host, 0);
  };
  for (let n = 0; n < 1_001; n++) lock(`host ${n}`);
  expect(logins.allows("host 0", 0)).toBe(true);
  expect(logins.allows("host 1", 0)).toBe(false);
  expect(logins.allows("host 1000", 0)).toBe(false);
});

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
