import { describe, expect, test } from "bun:test";
import { ReplicaError } from "../../src/base/errors.ts";
import { REPLID, TO_BULK, TO_PSYNC, Walk, WAYS } from "./walk.ts";

const refused = new ReplicaError("CONNECT_FAILED", { message: "connection refused" });

describe("an event after REPLICAOF NO ONE closes the socket and does nothing else", () => {
  const late = {
    opened: (walk: Walk) => walk.step({ type: "opened", nowMs: 1 }),
    bytes: (walk: Walk) => walk.say("+PONG\r\n"),
    lost: (walk: Walk) => walk.step({ type: "lost", error: refused }),
  };
  test.each(Object.entries(late))("%s", (_, fire) => {
    const walk = WAYS["receive-pong"]!();
    walk.step({ type: "leave" });
    expect(fire(walk)).toEqual([{ do: "close-link" }]);
    expect(walk.state).toEqual({ at: "none" });
  });

  test("an answer of the store has no effect at all", () => {
    const walk = WAYS["transfer, finishing"]!();
    walk.step({ type: "leave" });
    expect(walk.snapshotOpened()).toEqual([]);
    expect(walk.snapshotKept()).toEqual([]);
    expect(walk.step({ type: "keep-failed", error: refused })).toEqual([]);
    expect(walk.attempt()).toEqual([]);
    expect(walk.tick(1_000_000)).toEqual([]);
    expect(walk.state).toEqual({ at: "none" });
  });
});

describe("a socket error is reported with its reason, and the state is connect again", () => {
  const ways = Object.entries(WAYS).filter(([name]) => !/none|^connect$|finishing/.test(name));
  test.each(ways)("in %s", (_, way) => {
    const walk = way();
    const from = walk.state;
    const effects = walk.step({ type: "lost", error: refused });
    expect(effects.at(-1)).toEqual({ do: "failed", error: refused, from });
    expect(walk.state).toEqual({ at: "connect" });
  });
});

test("PING goes first, alone, and nothing follows before its reply", () => {
  const walk = Walk.opened({ password: "secret" });
  walk.tick(1000);
  expect(walk.sent()).toEqual(["PING"]);
  expect(walk.state.at).toBe("receive-pong");
});

describe("the reply to PING", () => {
  test.each([
    "+PONG",
    "+anything",
    "-NOAUTH Authentication required.",
    "-NOPERM this user has no permissions to run the 'ping' command",
    "-ERR operation not permitted",
  ])("%s means alive", (line) => {
    const walk = Walk.said({ password: "secret" }, line);
    expect(walk.sent()).toEqual(["PING", "AUTH secret"]);
    expect(walk.state.at).toBe("receive-auth");
  });

  test.each(["-LOADING Redis is loading", "-MASTERDOWN Link with MASTER is down", "-BUSY script"])(
    "%s means later",
    (line) => {
      const walk = Walk.said({}, line);
      expect(walk.error().code).toBe("PRIMARY_BUSY");
      expect(walk.error().message).toContain(line);
    },
  );

  test.each(["-ERR max number of clients reached", "-MISCONF Redis is configured", "-NOAUTHX"])(
    "%s is an error that names the reply",
    (line) => {
      const walk = Walk.said({}, line);
      expect(walk.error().code).toBe("PRIMARY_REFUSED");
      expect(walk.error().message).toContain(line);
    },
  );

  test.each(["HTTP/1.1 400 Bad Request", ":1", "$4", ""])("'%s' isn't a reply", (line) => {
    const walk = Walk.said({}, line);
    expect(walk.error().code).toBe("NOT_A_PRIMARY");
    expect(walk.error().message).toContain(`"${line}"`);
  });

  test("without a password, an error that asks for one names the setting", () => {
    const walk = Walk.said({}, "-NOAUTH Authentication required.");
    expect(walk.error().code).toBe("AUTH_FAILED");
    expect(walk.error().message).toContain("--password-file");
  });

  test("without a password, a user that may not PING goes on to PSYNC", () => {
    expect(Walk.said({}, "-NOPERM no ping").state.at).toBe("receive-port");
  });
});

describe("AUTH is sent only where a password is set", () => {
  test("sends none without a password", () => {
    const walk = Walk.said({ username: "someone" }, "+PONG");
    expect(walk.sent()).toEqual(["PING", "REPLCONF listening-port 6380"]);
  });

  test("with a user", () => {
    const walk = Walk.said({ username: "someone", password: "secret" }, "+PONG");
    expect(walk.sent()).toEqual(["PING", "AUTH someone secret"]);
  });

  test("an error ends the attempt and doesn't show the password", () => {
    const walk = Walk.said({ password: "secret" }, "+PONG", "-WRONGPASS invalid pair");
    expect(walk.error().code).toBe("AUTH_FAILED");
    expect(walk.error().message).not.toContain("secret");
    expect(walk.state).toEqual({ at: "connect" });
  });
});

describe("REPLCONF", () => {
  test("announces everything, one command at a time", () => {
    const walk = Walk.opened({ announceIp: "10.0.0.9" });
    const after = ["+PONG", "+OK", "+OK", "+OK", "+OK"].map((line) => {
      walk.say(`${line}\r\n`);
      return walk.sent().length;
    });
    expect(after).toEqual([2, 3, 4, 5, 6]);
    expect(walk.sent().slice(1)).toEqual([
      "REPLCONF listening-port 6380",
      "REPLCONF ip-address 10.0.0.9",
      "REPLCONF capa eof capa psync2",
      "REPLCONF version 255.255.255",
      "PSYNC ? -1",
    ]);
  });

  test("an error reply is noted as non-critical and passed over", () => {
    const walk = Walk.said({ announceIp: "::1" }, "+PONG", "-ERR a", "-ERR b", "-ERR c");
    expect(walk.notes()).toEqual([
      "info: (non-critical) the primary refuses REPLCONF listening-port: -ERR a",
      "info: (non-critical) the primary refuses REPLCONF ip-address: -ERR b",
      "info: (non-critical) the primary refuses REPLCONF capa: -ERR c",
    ]);
    expect(walk.state.at).toBe("receive-version");
  });

  test("names the version of a server that is to load the snapshot", () => {
    const walk = Walk.said({ announcedVersion: "8.1.0" }, "+PONG", "+OK", "+OK");
    expect(walk.sent().at(-1)).toBe("REPLCONF version 8.1.0");
  });

  test("a refused version isn't noted", () => {
    const walk = Walk.said({}, ...TO_PSYNC);
    expect(walk.notes()).toEqual([]);
    expect(walk.state.at).toBe("receive-psync");
  });

  test("a reply that is neither + nor - is malformed", () => {
    expect(Walk.said({}, "+PONG", ":1").error().code).toBe("PROTOCOL");
  });
});

test("PSYNC falls back to SYNC for a primary that does not know it", () => {
  const walk = Walk.said({}, ...TO_PSYNC, "-ERR unknown command 'PSYNC'");
  expect(walk.sent().slice(-2)).toEqual(["PSYNC ? -1", "SYNC"]);
  expect(walk.state).toEqual({ at: "receive-bulk-header", waits: "line", grant: { by: "sync" } });
  expect(walk.notes()).toEqual(["warn: the primary does not know PSYNC: falling back to SYNC"]);
});

test("no payload is taken before the temporary file is open; a file that can't be opened ends the attempt", () => {
  const walk = Walk.said({ storeAnswers: false }, ...TO_BULK);
  walk.say("$6\r\nabc");
  walk.say("d");
  expect(walk.payload()).toBe("");
  const error = new ReplicaError("DISK_FAILED", { message: "opening the temporary file" });
  const effects = walk.step({ type: "keep-failed", error });
  expect(effects.map((effect) => effect.do)).toEqual(["close-link", "discard-snapshot", "failed"]);
  expect(walk.error()).toBe(error);
});

describe("the state transfer, and no other, holds what is known of the payload", () => {
  test("with a length", () => {
    const walk = Walk.said({}, ...TO_BULK, "$10");
    walk.nowMs = 7;
    walk.say("abcd");
    expect(walk.state).toMatchObject({
      at: "transfer",
      grant: { by: "psync", position: { replid: REPLID, offset: 1000 } },
      totalBytes: 10,
      readBytes: 4,
      file: "temp-1.2.rdb",
      finishing: false,
    });
  });

  test("with $EOF the size is unknown until the end", () => {
    const walk = Walk.said({ storeAnswers: false }, ...TO_BULK, `$EOF:${"m".repeat(40)}`);
    walk.snapshotOpened();
    expect(walk.state).toMatchObject({ totalBytes: undefined, readBytes: 0 });
    walk.say(`abc${"m".repeat(40)}`);
    expect(walk.state).toMatchObject({ totalBytes: 3, readBytes: 3, finishing: true });
  });

  test("a state that was handed out never changes", () => {
    const walk = Walk.said({}, ...TO_BULK, "$10");
    walk.say("abcd");
    const { state } = walk;
    walk.say("ef");
    expect(state).toMatchObject({ readBytes: 4 });
    expect(walk.state).toMatchObject({ readBytes: 6 });
  });
});

describe("a failure closes the socket, unlinks the file, and returns to connect", () => {
  const error = new ReplicaError("DISK_FULL", { message: "full" });
  test.each(Object.entries(WAYS))("keeping failed in %s", (name, way) => {
    const walk = way();
    const at: string = walk.state.at;
    const effects: string[] = walk.step({ type: "keep-failed", error }).map((effect) => effect.do);
    if (at === "none" || at === "connect") {
      expect(effects).toEqual([]);
      expect<string>(walk.state.at).toBe(at);
      return;
    }
    const holdsFile = name.includes("file") || name.startsWith("transfer");
    expect(effects).toEqual(["close-link", ...(holdsFile ? ["discard-snapshot"] : []), "failed"]);
    expect(walk.state).toEqual({ at: "connect" });
  });

  test("drops what was under way when the attempt ended", () => {
    const walk = WAYS["transfer"]!();
    walk.step({ type: "lost", error });
    expect(walk.say("more")).toEqual([]);
    expect(walk.snapshotOpened()).toEqual([]);
    expect(walk.step({ type: "lost", error })).toEqual([]);
    expect(walk.tick(1_000_000)).toEqual([]);
  });

  test("the next attempt starts afresh: half a line and half a payload are forgotten", () => {
    const walk = Walk.said({}, ...TO_BULK, "$10");
    walk.say("abc");
    walk.step({ type: "lost", error });
    walk.attempt();
    walk.step({ type: "opened", nowMs: walk.nowMs });
    walk.say("+PO");
    walk.step({ type: "lost", error });
    walk.attempt();
    walk.step({ type: "opened", nowMs: walk.nowMs });
    walk.say("+PONG\r\n");
    expect(walk.state.at).toBe("receive-port");
  });
});

describe("every reply has a time limit, and so has every silence", () => {
  test.each(Object.entries(WAYS))("in %s", (name, way) => {
    const walk = way();
    const { at } = walk.state;
    const none = /^none|^connect$|file|finishing/.test(name);
    const long = /bulk-header|transfer|connected/.test(name);
    const limitMs = long ? 60_000 : 5000;
    walk.tick(limitMs - 1);
    expect(walk.state.at).toBe(at);
    walk.tick(1);
    if (none) {
      expect(walk.state.at).toBe(at);
      return;
    }
    expect(walk.state).toEqual({ at: "connect" });
    expect(walk.error().code).toBe("TIMED_OUT");
    expect(walk.error().message).toContain(long ? "--timeout" : "--sync-timeout");
  });

  test("received bytes restart the clock", () => {
    const walk = WAYS["transfer"]!();
    for (let at = 0; at < 10; at++) {
      walk.tick(59_999);
      walk.say("x");
    }
    expect(walk.state.at).toBe("transfer");
  });

  test("a reply that drips in has the same limit; a keepalive counts as a line", () => {
    const dribbled = WAYS["receive-pong"]!();
    for (let at = 0; at < 10; at++) {
      dribbled.tick(499);
      dribbled.say("+");
    }
    dribbled.tick(10);
    expect(dribbled.error().code).toBe("TIMED_OUT");
    const kept = WAYS["receive-psync"]!();
    for (let at = 0; at < 10; at++) {
      kept.tick(4_999);
      kept.say("\n");
    }
    expect(kept.state.at).toBe("receive-psync");
  });

  test("while the link is paused for our own disk, the silence is ours", () => {
    const walk = WAYS["connected"]!();
    walk.tick(600_000, true);
    walk.tick(59_999);
    expect(walk.state.at).toBe("connected");
    walk.tick(1);
    expect(walk.state.at).toBe("connect");
  });

  test("while a snapshot is being finished, a primary that waits for the first ACK may be silent", () => {
    const walk = WAYS["transfer, finishing"]!();
    walk.tick(600_000);
    walk.snapshotKept();
    walk.tick(59_999);
    expect(walk.state.at).toBe("connected");
    walk.tick(1);
    expect(walk.state.at).toBe("connect");
  });
});

describe("REPLICAOF NO ONE", () => {
  test.each(Object.entries(WAYS))("from %s", (name, way) => {
    const walk = way();
    const { at } = walk.state;
    const effects: string[] = walk.step({ type: "leave" }).map((effect) => effect.do);
    const open = at !== "none" && at !== "connect";
    const holdsFile = name.includes("file") || name.startsWith("transfer");
    expect(effects).toEqual([
      ...(open ? ["close-link"] : []),
      ...(holdsFile ? ["discard-snapshot"] : []),
    ]);
    expect(walk.state).toEqual({ at: "none" });
  });

  test("a primary can be followed again", () => {
    const walk = WAYS["transfer"]!();
    walk.step({ type: "leave" });
    walk.step({ type: "follow" });
    expect(walk.attempt()).toEqual([{ do: "open-link" }]);
    expect(walk.state.at).toBe("connecting");
  });
});
