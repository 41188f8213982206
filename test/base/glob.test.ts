import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Glob } from "../../src/base/glob.ts";
import type { Reply } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { amount, IS_FULL } from "../support/sweep.ts";
import { availableServers, startServer } from "../support/servers.ts";

/** Few characters, so that patterns often match; the special ones, and the two ends of ASCII. */
const CHARS = ["a", "b", "c", "-", "]", "^", "\\", "*", "?", "[", "\x00", "\x7f"];
const text = (maxLength: number) =>
  fc.array(fc.constantFrom(...CHARS), { maxLength }).map((chars) => chars.join(""));
/** What is special is special more often in a pattern. */
const pattern = fc
  .array(fc.constantFrom(...CHARS, "*", "?", "[a-c]", "[^a]", "[^", "\\", "[\\a-b]"), {
    maxLength: 9,
  })
  .map((parts) => parts.join(""));

const latin1 = (one: string) => Buffer.from(one, "latin1");

describe("matches globs", () => {
  test.each([
    ["n*s", "news", true],
    ["n*s", "newsx", false],
    ["*", "", false],
    ["", "", true],
    ["n?ws", "nws", false],
    ["h[ae]llo", "hallo", true],
    ["h[^e]llo", "hello", false],
    ["h[a-c]llo", "hbllo", true],
    ["h[c-a]llo", "hbllo", true],
    [String.raw`\*`, "*", true],
    [String.raw`\*`, "a", false],
    ["[", "[", false],
    ["[^", "x", true],
    [String.raw`[\a-c]`, "b", false],
    ["[a-]", "]", true],
    ["[^a]?", "\xe9\xff", true],
    ["a**b", "axxb", true],
    [`${"?".repeat(31)}*b`, `${"x".repeat(40)}b`, true],
    [`*${"a".repeat(64)}`, "a".repeat(63), false],
    [`*${"a".repeat(64)}`, "a".repeat(70), true],
  ] as const)("%s %s", (pattern, channel, matches) => {
    const glob = new Glob(pattern);
    expect(glob.matches(channel)).toBe(matches);
    const bytes = latin1(channel);
    expect(glob.matchesBytes(bytes)).toBe(matches);
    const amid = Buffer.concat([latin1("x"), bytes, latin1("x")]);
    expect(glob.matchesBytes(amid, 1, amid.length - 1)).toBe(matches);
  });

  test("that are hostile, without delay", () => {
    expect(new Glob("*a".repeat(1000)).matches(`${"a".repeat(60_000)}b`)).toBe(false);
  });

  test.each(availableServers().slice(IS_FULL ? 0 : -1))("as %s does", async (kind) => {
    await using server = await startServer(kind);
    await using client = await RespClient.connect({ port: server.port });
    await using subscriber = await RespClient.connect({ port: server.port });
    const channels = fc.sample(text(7), { numRuns: 500, seed: 1 });
    await subscriber.exchange(channels.map((channel) => ["SUBSCRIBE", latin1(channel)]));
    const patterns = fc.sample(pattern, {
      numRuns: amount("TEST_GLOBS", { sample: 1_000, full: 20_000 }),
      seed: 2,
    });
    const replies = await client.exchange(
      patterns.map((one) => ["PUBSUB", "CHANNELS", latin1(one)]),
    );
    patterns.forEach((one, n) => {
      const theirs = new Set((replies[n] as Reply[]).map(String));
      const glob = new Glob(one);
      const ours = new Set(channels.filter((channel) => glob.matches(channel)));
      expect([one, [...ours].sort()]).toEqual([one, [...theirs].sort()]);
      const asBytes = new Set(channels.filter((channel) => glob.matchesBytes(latin1(channel))));
      expect([one, asBytes]).toEqual([one, ours]);
    });
  });
});
