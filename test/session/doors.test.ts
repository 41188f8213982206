import { describe, expect, test } from "bun:test";
import { notNow, readDoor, sentinelDoor } from "../../src/session/doors.ts";
import type { PeerTerms } from "../../src/session/handshake.ts";
import { readReplid } from "../../src/session/info-reply.ts";
import { isRefusedCommand, isWithheldCommand } from "../../src/session/services.ts";
import { bytes, OTHER_REPLID, REPLID, TO_PSYNC, Walk } from "./walk.ts";

const peer: PeerTerms = {
  address: "10.0.0.1:6379",
  isTls: false,
  commands: { psync: "PSYNC", sync: "SYNC" },
  asksInfo: true,
};
const resume = { replid: REPLID, offset: 41 };
const UNKNOWN = "-ERR unknown command 'PSYNC', with args beginning with: '?' '-1'";
const NO_REPLCONF = "-NOPERM User weak has no permissions to run the 'replconf' command";
/** What a user without REPLCONF is answered up to PSYNC. */
const WITHOUT_REPLCONF = ["+PONG", NO_REPLCONF, NO_REPLCONF, NO_REPLCONF];

/** A walk that was asked with `peer`, up to these lines. */
function asked(terms: Partial<PeerTerms>, ...lines: string[]): Walk {
  return Walk.said({ wishes: { peer: { ...peer, ...terms } } }, ...lines);
}

/** Answers INFO with these fields. */
function inform(walk: Walk, ...fields: string[]): void {
  const info = fields.map((field) => `${field}\r\n`).join("");
  walk.say(`$${info.length}\r\n${info}\r\n`);
}

describe("a refusal is looked into with INFO, once, before the attempt ends in it", () => {
  test.each([
    ["-LOADING Redis is loading", TO_PSYNC],
    ["-NOMASTERLINK Can't SYNC", TO_PSYNC],
    ["-MASTERDOWN Link is down", []],
  ])("%s", (line, before) => {
    const walk = asked({}, ...before, line);
    expect(walk.sent().at(-1)).toBe("INFO");
    expect(walk.state).toEqual({ at: "receive-version", asked: "door" });
    expect(walk.done("failed")).toEqual([]);
    inform(walk, "loading:1", "loading_loaded_perc:7.50", "master_host:h", "master_port:1");
    expect(walk.error().code).toBe("PRIMARY_BUSY");
    expect(walk.error().message).toContain(line);
    expect(walk.error().message).toMatch(/7\.50 % are loaded|itself a replica of h:1/);
  });

  test("not with --ask-primary no, and not where INFO was asked before PSYNC", () => {
    const silent = asked({ asksInfo: false }, ...TO_PSYNC, "-NOMASTERLINK x");
    expect(silent.error().message).toContain("is itself a replica, and that link is down");
    const weighed = Walk.said({ wishes: { peer, weighs: true } }, ...TO_PSYNC);
    inform(weighed, "master_host:::1", "master_port:7000");
    weighed.say("-NOMASTERLINK x\r\n");
    expect(weighed.sent().at(-1)).toBe("PSYNC ? -1");
    expect(weighed.error().message).toContain("itself a replica of [::1]:7000, and");
  });

  test.each([
    ["-NOPERM no info", "an error"],
    ["$5\r\nmaster\r\n", "no INFO"],
    ["", "silence"],
  ])("stays the error where INFO brings %j (%s)", (answer) => {
    const walk = asked({}, ...TO_PSYNC, "-LOADING x");
    if (answer === "") walk.tick(5_001);
    else walk.say(`${answer}\r\n`);
    expect(walk.error()).toMatchObject({ code: "PRIMARY_BUSY" });
    expect(walk.error().message).toContain("still loading its data (-LOADING x)");
  });

  test("a service's own words stay the error as well", () => {
    const walk = asked({}, ...TO_PSYNC, "-ERR Unsupported command: psync ? -1");
    walk.tick(5_001);
    expect(walk.error().message).toStartWith(
      "this service (Huawei Cloud, by its words) offers no PSYNC (-ERR Unsupported command: psync ? -1): ask",
    );
  });
});

describe("a server that doesn't know PSYNC", () => {
  test("and is a sentinel is named; of an older server SYNC is asked", () => {
    const sentinel = asked({}, ...TO_PSYNC, UNKNOWN);
    inform(sentinel, "server_mode:sentinel", "master0:name=my master,status=ok,address=1:2");
    expect(sentinel.error()).toMatchObject({ code: "NOT_A_PRIMARY" });
    expect(sentinel.error().message).toEndWith("give redis+sentinel://10.0.0.1:6379/my%20master");
    const older = asked({}, ...TO_PSYNC, UNKNOWN);
    inform(older, "redis_version:2.6.0");
    expect(older.sent().at(-1)).toBe("SYNC");
  });

  test("nor SYNC is a service that offers neither", () => {
    const walk = asked({}, ...TO_PSYNC, UNKNOWN);
    inform(walk, "os:Amazon ElastiCache");
    walk.say("-ERR unknown command 'SYNC', with args beginning with: \r\n");
    expect(walk.error()).toMatchObject({ code: "PRIMARY_REFUSED" });
    expect(walk.error().message).toBe(
      "this service (Amazon ElastiCache) offers no PSYNC (-ERR unknown command 'SYNC'): ask AWS support for the names that its nodes have for PSYNC, and give them with --psync-command HOST:PORT=NAME",
    );
  });

  test("by the name that was given has another one", () => {
    const commands = { psync: "apsync", sync: "SYNC" };
    const walk = asked({ commands, asksInfo: false }, ...TO_PSYNC, UNKNOWN);
    expect(walk.sent().slice(-2)).toEqual(["apsync ? -1", "SYNC"]);
    walk.say("-ERR unknown command 'SYNC'\r\n");
    expect(walk.error().message).toContain("offers neither apsync nor SYNC");
    expect(walk.error().message).toContain("check --psync-command");
  });

  test("by its stock name, and takes another name of it for SYNC, sends the payload at once", () => {
    const commands = { psync: "apsync", sync: "SYNC" };
    const walk = asked({ commands }, ...TO_PSYNC, "", "$3");
    expect(walk.state).toMatchObject({ at: "transfer", grant: { by: "sync" }, totalBytes: 3 });
    walk.say("rdb");
    expect(walk.payload()).toBe("rdb");
    expect(asked({}, ...TO_PSYNC, "$3").error().code).toBe("PROTOCOL");
  });

  test("and lets the user not SYNC either tells the right for that", () => {
    const walk = asked({ asksInfo: false }, ...TO_PSYNC, UNKNOWN, "-NOPERM the 'sync' command");
    expect(walk.error()).toMatchObject({ code: "AUTH_FAILED" });
    expect(walk.error().message).toContain("send it ACL SETUSER default +sync, or");
  });
});

describe("a user without rights", () => {
  const NO_PSYNC =
    "-NOPERM this user has no permissions to run the 'psync' command or its subcommand";

  test("is told all that were missing, by the server's own names", () => {
    const noPing = "-NOPERM this user has no permissions to run the 'ping' command";
    const walk = Walk.said({}, noPing, ...WITHOUT_REPLCONF.slice(1), NO_PSYNC);
    expect(walk.error()).toMatchObject({ code: "AUTH_FAILED" });
    expect(walk.error().message).toContain(
      "send it ACL SETUSER default +ping +replconf +psync, or log in as another",
    );
    expect(walk.notes()).toEqual([]);
    // PING goes before the login: it says nothing about who logs in.
    const login = { username: "weak", password: "secret" };
    const other = Walk.said(login, noPing, "+OK", ...WITHOUT_REPLCONF.slice(1), NO_PSYNC);
    expect(other.error().message).toContain("ACL SETUSER weak +replconf +psync, or");
  });

  test("without REPLCONF is followed all the same; what follows is told once", () => {
    const walk = Walk.said({}, ...WITHOUT_REPLCONF, `+FULLRESYNC ${REPLID} 1000`, "$3");
    walk.say("rdb");
    expect(walk.state.at).toBe("connected");
    expect(walk.session.mayAcknowledge).toBe(false);
    const [note, ...more] = walk.notes();
    expect(more).toEqual([]);
    expect(note).toStartWith(`warn: (non-critical) the primary takes no REPLCONF (${NO_REPLCONF})`);
    expect(note).toEndWith("; send it ACL SETUSER default +replconf");
    expect(Walk.said({}, ...TO_PSYNC).session.mayAcknowledge).toBe(true);
  });

  test("without REPLCONF learns the history's new id from INFO, since +CONTINUE names none", () => {
    const resumed = (...fields: string[]) => {
      const walk = Walk.said({ resume, wishes: { peer } }, ...WITHOUT_REPLCONF);
      expect(walk.sent().at(-1)).toBe("INFO");
      inform(walk, ...fields);
      expect(walk.sent().at(-1)).toBe(`PSYNC ${REPLID} 42`);
      walk.say("+CONTINUE\r\n");
      return walk.done("continue").map(({ replid }) => replid);
    };
    expect(resumed(`master_replid:${OTHER_REPLID}`)).toEqual([OTHER_REPLID]);
    expect(resumed(`master_replid:${REPLID}`)).toEqual([undefined]);
    expect(resumed("master_replid:../x")).toEqual([undefined]);
  });
});

describe("readDoor", () => {
  test("takes nothing from what is no INFO", () => {
    for (const nothing of [undefined, "", "master_host:h\nmaster_port:x\nloading:1\n\u0000"]) {
      expect(readDoor(nothing)).toEqual({
        masters: undefined,
        primary: undefined,
        loading: undefined,
        service: undefined,
      });
    }
  });

  test("names up to eight masters, none of them able to steer a terminal", () => {
    const rows = Array.from({ length: 20 }, (_, at) => `master${at}:name=m\x1b${at},status=ok`);
    const { masters } = readDoor(["redis_mode:sentinel", ...rows].join("\r\n"));
    expect(masters).toHaveLength(8);
    expect(masters?.[1]).toBe("m?1");
  });

  test("the hint of a sentinel fits what it watches, and how it was reached", () => {
    const hint = (masters: string[], address?: string, isTls = false) =>
      sentinelDoor(masters, { address, isTls }).message.replace(/^.* give /, "");
    expect(hint(["a", "b"], "h:1")).toBe("redis+sentinel://h:1/NAME, where NAME is one of a, b");
    expect(hint([], "h:1")).toBe("redis+sentinel://h:1/NAME; it watches no primary yet");
    expect(hint(["a"], undefined, true)).toBe("rediss+sentinel://HOST:PORT/a");
  });

  test("loading without an estimate says how far it is", () => {
    const door = readDoor("loading:1\nloading_loaded_perc:12.34\nloading_eta_seconds:-1");
    expect(notNow(bytes("-LOADING x"), door).message).toContain("): 12.34 % are loaded");
  });
});

test.each([
  ["-ERR Command disallowed", true],
  ["-ERR Unsupported command: psync ? -1", true],
  ["-ERR unknown or unsupported command 'psync'", true],
  ["-ERR Command is not available: 'PSYNC'. See https://upstash.com/docs", true],
  ["-ERR command is not supported", true],
  ["-ERR Unrecognized REPLCONF option: capa", false],
  ["-ERR Can't sync, commands are busy", false],
  ["+OK", false],
])("%s: a command withheld as such: %p", (line, expected) => {
  expect(isWithheldCommand(bytes(line))).toBe(expected);
  expect(isRefusedCommand(bytes(line))).toBe(expected);
});

test("a replication id in INFO has 40 characters", () => {
  expect(readReplid(`a:b\r\nmaster_replid:${REPLID}\r\n`)).toBe(REPLID);
  expect(readReplid("master_replid:short")).toBeUndefined();
});
