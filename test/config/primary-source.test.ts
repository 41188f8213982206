import { describe, expect, test } from "bun:test";
import { usageErrorOf } from "../support/error-of.ts";
import {
  describeSource,
  parsePrimarySource,
  parseSource,
  type Source,
} from "../../src/config/primary-source.ts";
import { redactUrl } from "../../src/config/primary-url.ts";

const nobody = { username: undefined, password: undefined };
const plain = { kind: "sentinel", tls: false, master: "main", ...nobody } as const;

describe("parses", () => {
  const cases: [string, Source][] = [
    ["redis+sentinel://h/main", { ...plain, sentinels: [{ host: "h", port: 26379 }] }],
    [
      "REDIS+Sentinel://a:1,b.example:,[::1],[fe80::1]:65535/main",
      {
        ...plain,
        sentinels: [
          { host: "a", port: 1 },
          { host: "b.example", port: 26379 },
          { host: "::1", port: 26379 },
          { host: "fe80::1", port: 65535 },
        ],
      },
    ],
    [
      "rediss+sentinel://us%40er:p%2C%3A%C3%A9:x@h:7/my%2Fmain%20one",
      {
        kind: "sentinel",
        tls: true,
        sentinels: [{ host: "h", port: 7 }],
        master: "my/main one",
        username: "us@er",
        password: "p,:é:x",
      },
    ],
    [
      "redis+sentinel://:p@h,g/main",
      {
        ...plain,
        sentinels: [
          { host: "h", port: 26379 },
          { host: "g", port: 26379 },
        ],
        password: "p",
      },
    ],
    [
      "redis+cluster://h",
      { kind: "cluster", tls: false, seeds: [{ host: "h", port: 6379 }], ...nobody },
    ],
    [
      "REDISS+cluster://us%40er:p%2F@a:7000,b.example,[::1]:1/",
      {
        kind: "cluster",
        tls: true,
        seeds: [
          { host: "a", port: 7000 },
          { host: "b.example", port: 6379 },
          { host: "::1", port: 1 },
        ],
        username: "us@er",
        password: "p/",
      },
    ],
    ["redis://h", { kind: "tcp", host: "h", port: 6379, ...nobody }],
    ["unix:///x", { kind: "unix", path: "/x", ...nobody }],
  ];
  test.each(cases)("%s", (url, source) => {
    expect(parseSource(url)).toEqual(source);
  });
});

function complaint(url: string): string {
  return usageErrorOf(() => parseSource(url)).message;
}

describe("refuses", () => {
  test.each([
    ["redis+sentinel://", "the host is missing"],
    ["redis+sentinel:///main", "the host is missing"],
    ["redis+sentinel://h,/main", "the host is missing"],
    ["redis+sentinel://h,,g/main", "the host is missing"],
    ["redis+sentinel://h", "the master's name is missing"],
    ["redis+cluster://", "the host is missing"],
    ["redis+cluster://h,", "the host is missing"],
    ["redis+cluster://h/0", "a path is not allowed: a cluster has no name and one database"],
    ["redis+cluster://h:0", "from 1 to 65535"],
    ["redis+cluster://h,::1", "write an IPv6 address in brackets"],
    ["redis+cluster://p@ss@h", "write @ as %40"],
    ["redis+cluster://h?a", "a ? is not allowed"],
    ["redis+sentinel://h/", "the master's name is missing"],
    ["redis+sentinel://h/main/", "write / in it as %2F"],
    ["redis+sentinel://h/main/0", "write / in it as %2F"],
    ["redis+sentinel://h/%zz", "write it as %25"],
    ["redis+sentinel://h/a%0Ab", "control character"],
    ["redis+sentinel://h:0/main", "from 1 to 65535"],
    ["redis+sentinel://g,h:65536/main", "from 1 to 65535"],
    ["redis+sentinel://g,::1/main", "write an IPv6 address in brackets"],
    ["redis+sentinel://[::1/main", "in brackets"],
    ["redis+sentinel://[1.2.3.4]/main", "not an IPv6 address"],
    ["redis+sentinel://g h/main", "not a valid host name"],
    ["redis+sentinel://h/main?db=1", "a ? is not allowed"],
    ["redis+sentinel:h/main", "not a URL"],
    ["redis+sentinels://h/main", "unknown scheme redis+sentinels://"],
    ["unix+sentinel:///x/main", "unknown scheme unix+sentinel://"],
    ["redis://g:1,h:2/main", "the port is not a whole number"],
  ])("%s", (url, reason) => {
    expect(complaint(url)).toContain(reason);
  });
});

describe("an error never shows the password", () => {
  test.each([
    "redis+sentinel://u:hunter2@h",
    "redis+sentinel://u:hunter2@h:x/main",
    "redis+sentinel://u:hunter2@g,h:99999/main",
    "redis+sentinel://:hunter2",
    "redis+sentinel://u:hunter2/main",
    "redis+sentinel://g:1,u:hunter2/main",
    "redis+sentinel://[::1]:hunter2/main",
    "redis+sentinel://u:x,hunter2/main",
    "redis+sentinel://u:hun/hunter2@h/main",
    "redis+sentinel://u:x@hunter2@h/main",
    "redis+sentinel://u:p@g,u:hunter2@h/main",
    "redis+sentinel://u:x?hunter2@h/main",
    "redis+sentinel://u:x#hunter2@h/main",
    "redis+sentinel://u:hunter2%@h/main",
    "redis+sentinel://h/main?password=hunter2",
    "redis+sentinel://h:1/main:hunter2/",
    "redis+sentinel:/u:hunter2@h/main",
    "redis+sentinels://u:hunter2@h/main",
    "redis+cluster://u:hunter2@h:x",
    "redis+cluster://:hunter2",
    "redis+cluster://g:1,u:hunter2",
    "redis+cluster://u:p@g,u:hunter2@h",
    "redis+cluster://h:1/hunter2:x",
    "redis://u:1,hunter2",
  ])("%s", (url) => {
    expect(complaint(url)).not.toContain("hunter2");
    expect(redactUrl(url)).not.toContain("hunter2");
  });

  test("but shows what can't be a password", () => {
    const url = "redis+sentinel://g:26379,[::1]:26380,h/main";
    expect(redactUrl(url)).toBe(url);
    expect(redactUrl("redis+cluster://g:1,[::1]:2")).toBe("redis+cluster://g:1,[::1]:2");
    expect(redactUrl("redis+sentinel://u:p@g:1,h/main")).toBe("redis+sentinel://***@g:1,h/main");
  });
});

test("describes a source as a URL without its password, which parses as the same source", () => {
  for (const [url, shown] of [
    ["redis+sentinel://u:p@h,[::1]:1/main", "redis+sentinel://u@h:26379,[::1]:1/main"],
    ["rediss+sentinel://:p@h:1/a%2Fb%20c", "rediss+sentinel://h:1/a%2Fb%20c"],
    ["rediss://u:p@h", "rediss://u@h:6379"],
    ["rediss+cluster://u:p@h,[::1]:1", "rediss+cluster://u@h:6379,[::1]:1"],
  ] as const) {
    const source = parseSource(url);
    expect(describeSource(source)).toBe(shown);
    expect(parseSource(shown)).toEqual({ ...source, password: undefined });
  }
});

test("what follows one primary refuses a whole cluster", () => {
  const { message } = usageErrorOf(() => parsePrimarySource("redis+cluster://u:hunter2@h:1,g"));
  expect(message).toContain("redis+cluster://***@h:1,g names a whole cluster");
  expect(message).toContain("give the URL of one shard's primary, redis://host:port");
});
