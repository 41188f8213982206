import { expect, test } from "bun:test";
import { withoutPasswords } from "../../src/config/redact.ts";

test.each([
  ["redis://u:hunter2@h:6380", "not redis://u:hunter2@h:6380", "not redis://u:***@h:6380"],
  // As a path is resolved: with single slashes.
  ["redis://u:hun//ter2@h", "no /x/redis:/u:hun/ter2@h", "no /x/redis:/u:***@h"],
  // As JSON.
  ['redis://u:a " hunter2@h', 'not "redis://u:a \\" hunter2@h"', 'not "redis://u:***@h"'],
  ["redis://u:a@hunter2@h", "not redis://u:a@hunter2@h", "not redis://u:***@h"],
  ["redis://u:p#hunter2@h", "not redis://u:p#hunter2@h", "not redis://u:***@h"],
  // Cut short before its end.
  ["redis://u:hunter2hunter2@h", "not redis://u:hunter2hun", "not redis://u:***"],
  [
    "--http=redis://u:hunter2@h",
    "--http is redis://u:hunter2@h: no",
    "--http is redis://u:***@h: no",
  ],
  ["redis://:hunter2", 'not "redis://:hunter2"', 'not "redis://:***"'],
  ["u:hunter2@h", "can't open u:hunter2@h: none", "can't open u:***@h: none"],
  ["--redis://u:hunter2@h", "unknown flag --redis://u:hunter2@h", "unknown flag --redis://u:***@h"],
  // Without the colon of the scheme; as a path, too, and without a host.
  ["redis//:hunter2@h", 'not "redis//:hunter2@h"', 'not "redis//:***@h"'],
  ["rediss//u:hun//ter2@h", "no /x/rediss/u:hun/ter2@h", "no /x/rediss/u:***@h"],
  ["redis+sentinel//:a hunter2@h", "no redis+sentinel//:a hunter2@h", "no redis+sentinel//:***@h"],
  ["redis//u:hunter2", "no redis//u:hunter2", "no redis//u:***"],
  ["x", "dir is redis//:hunter2@h: no, nor u@h", "dir is redis//:***@h: no, nor u@h"],
  ["x", "no /x/redis/u:hunter2@h: no", "no /x/redis/u:***@h: no"],
  // Nowhere among what was given: in a settings file.
  ["x", "dir is redis://u:hunter2@h: no, nor u@h", "dir is redis://u:***@h: no, nor u@h"],
])("%j in %j is hidden, and nothing beside it", (given, text, shown) => {
  expect(withoutPasswords(text, ["follow", given])).toBe(shown);
  expect(withoutPasswords(`${text}\n${text}`, [given])).toBe(`${shown}\n${shown}`);
});

test.each([
  // The sentences about a URL hold what looks like one.
  "redis://***: write # as %23, @ as %40 in a user or password",
  "redis://:***: the host is missing: the form is redis://[login@]host[:port], rediss://…",
  "redis://[::1]:6379: see u@h",
  "redis://h:6379: see u@h",
  "redis://u@h:1: connection refused",
  "a: b@c",
  "no /srv/redis/a:c: see u@h, nor /srv/data//u:1@2, nor myredis//u:1@2",
  "redis//h:6379: see u@h",
])("%j stays as it is", (text) => {
  const given = [
    "redis://:p#w@h",
    "redis://[::1]:6379",
    "redis://::1",
    "redis://h:6379",
    "redis://u@h:1",
    "redis//h:6379",
    "/srv/redis/a:c",
    ":b@",
    "",
  ];
  expect(withoutPasswords(text, given)).toBe(text);
});
