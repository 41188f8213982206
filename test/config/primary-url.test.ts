import { describe, expect, test } from "bun:test";
import { usageErrorOf } from "../support/error-of.ts";
import {
  bareUrl,
  describeTarget,
  parsePrimaryUrl,
  redactUrl,
} from "../../src/config/primary-url.ts";

const nobody = { username: undefined, password: undefined };

describe("parses", () => {
  test.each([
    ["redis://host", { kind: "tcp", host: "host", port: 6379, ...nobody }],
    ["redis://host:7000", { kind: "tcp", host: "host", port: 7000, ...nobody }],
    ["redis://host:7000/", { kind: "tcp", host: "host", port: 7000, ...nobody }],
    ["REDIS://10.0.0.1:", { kind: "tcp", host: "10.0.0.1", port: 6379, ...nobody }],
    ["rediss://a.b-c_d.example", { kind: "tls", host: "a.b-c_d.example", port: 6379, ...nobody }],
    ["redis://[::1]", { kind: "tcp", host: "::1", port: 6379, ...nobody }],
    ["redis://[fe80::1]:1", { kind: "tcp", host: "fe80::1", port: 1, ...nobody }],
    ["redis://u@h", { kind: "tcp", host: "h", port: 6379, username: "u", password: undefined }],
    ["redis://:p@h", { kind: "tcp", host: "h", port: 6379, username: undefined, password: "p" }],
    ["redis://@h", { kind: "tcp", host: "h", port: 6379, ...nobody }],
    [
      "redis://us%40er:p%3A%2F%3Fs%C3%A9:x@[::1]:65535",
      { kind: "tcp", host: "::1", port: 65535, username: "us@er", password: "p:/?sé:x" },
    ],
    ["unix:///run/redis.sock", { kind: "unix", path: "/run/redis.sock", ...nobody }],
    [
      "unix://u:p@/run/a%20b.sock",
      { kind: "unix", path: "/run/a b.sock", username: "u", password: "p" },
    ],
  ])("%s", (url, target) => {
    expect(parsePrimaryUrl(url)).toEqual(target as ReturnType<typeof parsePrimaryUrl>);
  });
});

function complaint(url: string): string {
  return usageErrorOf(() => parsePrimaryUrl(url)).message;
}

describe("refuses", () => {
  test.each([
    ["", "not a URL: the form is redis://"],
    ["localhost", "did you mean redis://localhost:6379?"],
    ["localhost:6390", "did you mean redis://localhost:6390?"],
    ["::1", "did you mean redis://[::1]:6379?"],
    ["http://host", "unknown scheme http://"],
    ["redis://", "the host is missing"],
    ["redis://:6379", "the host is missing"],
    ["redis://host:0", "from 1 to 65535"],
    ["redis://host:65536", "from 1 to 65535"],
    ["redis://host:1e3", "from 1 to 65535"],
    ["redis://::1:6379", "write an IPv6 address in brackets"],
    ["redis://a::1", "write an IPv6 address in brackets"],
    ["redis://[::1", "in brackets"],
    ["redis://[1.2.3.4]", "not an IPv6 address"],
    ["redis://ho st", "not a valid host name"],
    ["redis://host/0", "a path is not allowed"],
    ["redis://host?db=1", "a ? is not allowed: the form is redis://"],
    ["redis://host#x", "a # is not allowed: the form is redis://"],
    ["redis://::1", "redis://::1: write an IPv6 address in brackets: redis://[::1]:6379"],
    ["6390", "did you mean redis://127.0.0.1:6390?"],
    [":6390", "did you mean redis://127.0.0.1:6390?"],
    ["host:70000", "host:70000: not a URL: the form is redis://"],
    ["u:p@host:1", "did you mean redis://***@host:1?"],
    ["redis://u%zz@host", "write it as %25"],
    ["unix://run/redis.sock", "begins with /"],
    ["unix:///", "the socket path is missing"],
    [`unix:///${"x".repeat(107)}`, "107 bytes"],
  ])("%s", (url, reason) => {
    expect(complaint(url)).toContain(reason);
  });
});

describe("says which characters of a login to write otherwise, and how", () => {
  const inFile = "or put the password into a file, for --password-file";
  test.each([
    ["redis://:p#w@h:1", "redis://***: write # as %23 and % as %25"],
    ["redis://:p?w@h", "redis://***: write ? as %3F and % as %25"],
    ["redis://:p/w@h", "redis://***@h: write / as %2F and % as %25"],
    ["rediss://u:p@w@h", "rediss://***@h: write @ as %40 and % as %25"],
    ["redis://u:@/?#@h", "redis://***: write @ as %40, / as %2F, ? as %3F, # as %23 and % as %25"],
    ["unix://:p#w@/run/x", "unix://***: write # as %23 and % as %25"],
  ])("%s", (url, reason) => {
    expect(complaint(url)).toBe(`${reason} in a user or password (percent-encoding), ${inFile}`);
  });

  test.each([
    [
      "redis://:p%w@h",
      "a % in the password is not followed by two hex digits: write it as %25 (percent-encoding)",
    ],
    [
      "redis://:p%ff@h",
      "what is percent-encoded in the password is not UTF-8 text: write a % as %25",
    ],
  ])("%s", (url, reason) => {
    expect(complaint(url)).toBe(`redis://***@h: ${reason}, ${inFile}`);
  });

  test("a : needs none: the first one ends the user", () => {
    expect(parsePrimaryUrl("redis://u:p:w@h")).toMatchObject({ username: "u", password: "p:w" });
  });
});

describe("an error never shows the password", () => {
  test.each([
    "redis://u:hunter2@h:99999",
    "redis://u:hunter2@h/0",
    "redis://u:hunter2@",
    "redis://:hunter2",
    "redis://h:hunter2/",
    "redis://u:hun/hunter2@h",
    "redis://u:x@hunter2@h",
    "redis://u:x?hunter2@h",
    "redis://u:x#hunter2@h",
    "redis://u:hunter2%@h",
    "redis://h?password=hunter2",
    "redis://h/?password=a@hunter2",
    "redis://[::1]:hunter2",
    "http://u:hunter2@h",
    "redis:/u:hunter2@h",
    "u:hunter2@h:6379",
    "u:hunter2@h",
    "unix://u:hunter2@run/x",
    "unix://u:hunter2",
  ])("%s", (url) => {
    expect(complaint(url)).not.toContain("hunter2");
    expect(redactUrl(url)).not.toContain("hunter2");
  });
});

test("describes a target as a URL without its password", () => {
  for (const [url, shown] of [
    ["redis://u:p@h", "redis://u@h:6379"],
    ["rediss://:p@[::1]:1", "rediss://[::1]:1"],
    ["redis://a%40b:p@h", "redis://a%40b@h:6379"],
    ["unix://:p@/run/a%20b", "unix:///run/a%20b"],
  ] as const) {
    expect(describeTarget(parsePrimaryUrl(url))).toBe(shown);
  }
});

test("a URL without its password", () => {
  expect(bareUrl("redis://u:p%40@h:1/")).toBe("redis://u@h:1/");
  expect(bareUrl("unix://:p@/x")).toBe("unix://@/x");
  expect(bareUrl("rediss+sentinel://u:p@g:1,h/main")).toBe("rediss+sentinel://u@g:1,h/main");
  expect(bareUrl("redis+cluster://u:p@g:1,h")).toBe("redis+cluster://u@g:1,h");
  for (const without of ["redis://h:1", "redis://u@h", "--dir", "u:p@h", "http://u:p@h"]) {
    expect(bareUrl(without)).toBeUndefined();
  }
});
