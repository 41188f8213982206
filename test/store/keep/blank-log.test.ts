import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { isBlankLog, isHeartbeat } from "../../../src/store/keep/blank-log.ts";
import { tempDir } from "../../support/temp.ts";

const PING = "*1\r\n$4\r\nPING\r\n";
const GETACK = "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";
const SELECT = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
const SET = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";

test("only what a primary sends of itself is a heartbeat", () => {
  for (const stream of ["", PING, PING.toLowerCase(), PING + GETACK + PING, SELECT + PING]) {
    expect(isHeartbeat(stream)).toBe(true);
  }
  for (const stream of [SET, PING + SET, SET + PING, "x", `${PING}\0`, `${PING}*1\r\n$5\r\n`]) {
    expect(isHeartbeat(stream)).toBe(false);
  }
  // Cut anywhere, it may still become one.
  for (let cut = 0; cut < GETACK.length; cut++) {
    expect(isHeartbeat(PING + GETACK.slice(0, cut))).toBe(true);
  }
});

test("a log of a day's heartbeats is blank; one that is longer, or can't be read, is not", () => {
  using dir = tempDir("blank");
  const path = dir.file("log");
  writeFileSync(path, SELECT + PING.repeat(9_000));
  expect(isBlankLog(path, SELECT.length)).toBe(true);
  writeFileSync(path, SELECT + PING.repeat(9_000) + SET);
  expect(isBlankLog(path, SELECT.length)).toBe(false);
  writeFileSync(path, SELECT + PING.repeat(80_000));
  expect(isBlankLog(path, SELECT.length)).toBe(false);
  expect(isBlankLog(dir.file("none"), 0)).toBe(false);
});
