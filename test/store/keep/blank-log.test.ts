import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { harmlessBytes, isBlankLog } from "../../../src/store/keep/blank-log.ts";
import { encodeCommand } from "../../support/resp.ts";
import { tempDir } from "../../support/temp.ts";

const command = (...words: string[]) => encodeCommand(words).toString("latin1");
const PING = command("PING");
const GETACK = command("REPLCONF", "GETACK", "*");
const SELECT = command("SELECT", "0");
const SET = command("SET", "k", "v");
const HELLO = command("PUBLISH", "__sentinel__:hello", "127.0.0.1,26379,\r\n*1\r\n$3\r\nSET\r\n");

test("a heartbeat and messages change nothing", () => {
  for (const stream of ["", PING, PING.toLowerCase(), SELECT + GETACK + PING, HELLO + HELLO]) {
    expect(harmlessBytes(stream)).toBe(stream.length);
  }
  for (const stream of [SET, PING + SET, SET + PING, "x", `${PING}\0`, "$4\r\nPING\r\n", "\n"]) {
    expect(harmlessBytes(stream)).toBeUndefined();
  }
  // What is cut may still become one of them, until its verb is whole.
  const whole = PING + HELLO;
  for (let cut = 0; cut < GETACK.length; cut++) {
    expect(harmlessBytes(whole + GETACK.slice(0, cut))).toBe(whole.length);
  }
  const verb = SET.indexOf("k") - "$1\r\n".length;
  for (let cut = 0; cut < SET.length; cut++) {
    expect(harmlessBytes(PING + SET.slice(0, cut))).toBe(cut < verb ? PING.length : undefined);
  }
});

test("a log of a day's heartbeats is blank; one with a write, too long a one, or none, is not", () => {
  using dir = tempDir("blank");
  const path = dir.file("log");
  const isBlank = (...streams: string[]) => {
    writeFileSync(path, SELECT + streams.join(""));
    return isBlankLog(path, SELECT.length);
  };
  expect(isBlank()).toBe(true);
  expect(isBlank(PING.repeat(9_000), GETACK, HELLO.repeat(4_000))).toBe(true);
  expect(isBlank(PING.repeat(9_000), HELLO.slice(0, 20))).toBe(true);
  expect(isBlank(PING.repeat(9_000), SET)).toBe(false);
  expect(isBlank(PING.repeat(9_000), SET, PING.repeat(9_000))).toBe(false);
  expect(isBlank(command("PUBLISH", "channel", "m".repeat(64 * 1024)))).toBe(false);
  expect(isBlank(PING.repeat(1_200_000))).toBe(false);
  expect(isBlankLog(dir.file("none"), 0)).toBe(false);
});

test("a block may end anywhere in a command", () => {
  using dir = tempDir("blank");
  const path = dir.file("log");
  for (let more = 0; more <= HELLO.length; more++) {
    const filler = command("PUBLISH", "c", "m".repeat(64 * 1024 - 50 - more));
    writeFileSync(path, filler + HELLO + PING);
    expect(isBlankLog(path, 0)).toBe(true);
    writeFileSync(path, filler + HELLO + SET);
    expect(isBlankLog(path, 0)).toBe(false);
  }
});
