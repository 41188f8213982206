import { describe, expect, spyOn, test } from "bun:test";
import {
  newerThanCapability,
  newerThanOf,
  runIdCapability,
  runIdOf,
} from "../../src/base/capabilities.ts";
import { LineReader } from "../../src/resp/line-reader.ts";
import { OTHER_REPLID, REPLID, TO_BULK, TO_PSYNC, Walk } from "./walk.ts";

const resume = { replid: REPLID, offset: 41 };

test("handshake: never pipelines: one command waits for its reply at a time", () => {
  const walk = Walk.opened({ password: "secret", announceIp: "::1" });
  for (const line of ["+PONG", "+OK", "+OK", "+OK", "+OK", "+OK"]) {
    const before = walk.sent().length;
    expect(walk.tick(900).filter((effect) => effect.do === "send")).toEqual([]);
    walk.say(`${line}\r\n`);
    expect(walk.sent().length).toBe(before + 1);
  }
  expect(walk.sent().at(-1)).toBe("PSYNC ? -1");
});

test("handshake: names this process as a capability, which a primary passes over", () => {
  const runId = "0123456789abcdef0123456789abcdef01234567";
  const sent = Walk.said({ runId }, ...TO_PSYNC).sent();
  expect(sent).toContain(`REPLCONF capa eof capa psync2 capa bun-replica-run-id=${runId}`);
  expect(Walk.said({}, ...TO_PSYNC).sent()).toContain("REPLCONF capa eof capa psync2");
  expect([
    runIdOf(runIdCapability(runId)),
    runIdOf("eof"),
    runIdOf("bun-replica-run-id=x"),
  ]).toEqual([runId, undefined, undefined]);
});

test("handshake: a snapshot newer than an offset is wished for as a capability, too", () => {
  const sent = Walk.said({ wishes: { newerThan: 41 } }, ...TO_PSYNC).sent();
  expect(sent).toContain("REPLCONF capa eof capa psync2 capa bun-replica-newer-than=41");
  expect([41, 0].map((offset) => newerThanOf(newerThanCapability(offset)))).toEqual([41, 0]);
  for (const other of [
    "eof",
    "bun-replica-newer-than=",
    "bun-replica-newer-than=-1",
    "bun-replica-newer-than=1e3",
  ])
    expect(newerThanOf(other)).toBeUndefined();
});

describe("handshake: INFO before PSYNC, where the room matters", () => {
  const UP_TO_INFO = ["+PONG", "+OK", "+OK", "+OK"];
  const weighed = (walk: Walk) => walk.effects.filter((effect) => effect.do === "weigh");

  test("its text is there before PSYNC goes out", () => {
    const walk = Walk.said({ resume, wishes: { weighs: true } }, ...UP_TO_INFO);
    expect(walk.sent().at(-1)).toBe("INFO");
    walk.say("$10\r\n# A\r\nb:1\r\n");
    expect(weighed(walk)).toEqual([]);
    const effects = walk.say("\r\n");
    expect(effects.map((effect) => effect.do)).toEqual(["weigh", "send"]);
    expect(weighed(walk)).toEqual([{ do: "weigh", info: "# A\nb:1" }]);
    expect(walk.sent().at(-1)).toBe(`PSYNC ${REPLID} 42`);
  });

  test("a login that may not ask goes on without", () => {
    const walk = Walk.said({ wishes: { weighs: true } }, ...UP_TO_INFO, "-NOPERM no permissions");
    expect(weighed(walk)).toEqual([{ do: "weigh", info: undefined }]);
    expect(walk.sent().at(-1)).toBe("PSYNC ? -1");
  });

  test("has its time limit like every reply", () => {
    const walk = Walk.said({ wishes: { weighs: true } }, ...UP_TO_INFO);
    walk.tick(5_001);
    expect(walk.error()).toMatchObject({ code: "TIMED_OUT" });
  });
});

describe("handshake: a bare newline is a keepalive", () => {
  test.each(["\n", "\r\n"])("%j before the PSYNC reply", (keepalive) => {
    const walk = Walk.said({}, ...TO_PSYNC);
    walk.tick(4999);
    expect(walk.say(keepalive)).toEqual([]);
    walk.tick(4999);
    expect(walk.state.at).toBe("receive-psync");
    walk.say(`+FULLRESYNC ${REPLID} 1000\r\n`);
    expect(walk.state.at).toBe("receive-bulk-header");
  });

  test.each(["\n", "\r\n"])("%j before the bulk header", (keepalive) => {
    const walk = Walk.said({}, ...TO_BULK);
    walk.tick(59_999);
    expect(walk.say(keepalive)).toEqual([]);
    walk.tick(59_999);
    expect(walk.state.at).toBe("receive-bulk-header");
    walk.say(`${keepalive}${keepalive}$3\r\nrdb`);
    expect(walk.payload()).toBe("rdb");
  });

  test("is malformed anywhere else: it doesn't answer REPLCONF", () => {
    expect(Walk.said({}, "+PONG", "").error().code).toBe("PROTOCOL");
  });
});

describe("handshake: +FULLRESYNC <id> <offset>", () => {
  test("keeps both, and ignores words that some services append", () => {
    const walk = Walk.said({}, ...TO_PSYNC, `+FULLRESYNC ${REPLID} 1000 extra words`);
    expect(walk.state).toMatchObject({
      at: "receive-bulk-header",
      waits: "line",
      grant: { by: "psync", position: { replid: REPLID, offset: 1000 } },
    });
  });

  test("may answer a request to resume", () => {
    const walk = Walk.said({ resume }, ...TO_BULK, "$3");
    walk.say("rdb");
    expect(walk.state).toMatchObject({ at: "connected", receivedOffset: 1000 });
  });
});

describe("handshake: +CONTINUE", () => {
  test("asks for the byte after the last one that is kept", () => {
    expect(
      Walk.said({ resume }, ...TO_PSYNC)
        .sent()
        .at(-1),
    ).toBe(`PSYNC ${REPLID} 42`);
  });

  test("without an id, continues under the same one", () => {
    const walk = Walk.said({ resume }, ...TO_PSYNC, "+CONTINUE");
    expect(walk.state).toEqual({ at: "connected", replid: REPLID, receivedOffset: 41 });
    expect(walk.done("continue")).toEqual([{ do: "continue", replid: undefined }]);
    expect(walk.acknowledged()).toEqual([41]);
  });

  test("with a new id", () => {
    const walk = Walk.said({ resume }, ...TO_PSYNC, `+CONTINUE ${OTHER_REPLID}`);
    expect(walk.state).toEqual({ at: "connected", replid: OTHER_REPLID, receivedOffset: 41 });
    expect(walk.done("continue")).toEqual([{ do: "continue", replid: OTHER_REPLID }]);
  });

  test("takes stream bytes in the same packet, even if they look like lines", () => {
    const walk = Walk.said({ resume }, ...TO_PSYNC);
    walk.say("\n+CONTINUE\r\n\r\n+CONTINUE\r\n$1\r\nab");
    expect(walk.stream()).toBe("\r\n+CONTINUE\r\n$1\r\nab");
    expect(walk.state).toMatchObject({ at: "connected", receivedOffset: 41 + 19 });
  });

  test("tells the store before the first byte", () => {
    const walk = Walk.said({ resume }, ...TO_PSYNC);
    const done = walk.say("+CONTINUE\r\nab").map((effect) => effect.do);
    expect(done).toEqual(["continue", "acknowledge", "stream"]);
  });

  test("is malformed where nothing was asked for", () => {
    expect(Walk.said({}, ...TO_PSYNC, "+CONTINUE").error().code).toBe("PROTOCOL");
  });
});

describe("handshake: errors in place of the PSYNC reply", () => {
  test.each(["-NOMASTERLINK Can't SYNC", "-LOADING dataset", "-MASTERDOWN Link"])(
    "%s: not now, try again later",
    (line) => {
      const walk = Walk.said({ resume }, ...TO_PSYNC, line);
      expect(walk.error()).toMatchObject({ code: "PRIMARY_BUSY", retry: "backoff" });
      expect(walk.error().message).toContain(line);
      expect(walk.sent()).not.toContain("SYNC");
    },
  );

  test.each([
    ["-NOPERM no permission", "send it ACL SETUSER default +psync, or log in"],
    ["-NOAUTH Authentication required.", "set --username and --password-file"],
  ])("%s: tells the user what to do", (line, says) => {
    const walk = Walk.said({}, ...TO_PSYNC, line);
    expect(walk.error().code).toBe("AUTH_FAILED");
    expect(walk.error().message).toContain(says);
  });

  test.each(["-ERR unknown command `PSYNC`, with args beginning with: ", "-ERR Unknown command"])(
    "%s: only an unknown command leads to SYNC",
    (line) => {
      expect(
        Walk.said({}, ...TO_PSYNC, line)
          .sent()
          .at(-1),
      ).toBe("SYNC");
    },
  );

  test("any other error doesn't", () => {
    const walk = Walk.said({}, ...TO_PSYNC, "-ERR internal");
    expect(walk.error().code).toBe("PRIMARY_REFUSED");
    expect(walk.sent()).not.toContain("SYNC");
  });
});

describe("handshake: -ERR in place of $", () => {
  test.each([
    ["+FULLRESYNC", TO_BULK],
    ["SYNC", [...TO_PSYNC, "-ERR unknown command"]],
  ])("after %s", (_, lines) => {
    const walk = Walk.said({}, ...lines, "-ERR Unable to perform background save");
    expect(walk.error().code).toBe("PRIMARY_REFUSED");
    expect(walk.error().message).toContain("Unable to perform background save");
    expect(walk.names()).not.toContain("open-snapshot");
  });
});

test("handshake: after SYNC, the position is what the store read from the snapshot", () => {
  const walk = Walk.said({ baseOffset: 77 }, ...TO_PSYNC, "-ERR unknown command", "$3");
  expect(walk.done("open-snapshot")[0]?.grant).toEqual({ by: "sync" });
  walk.say("rdb");
  expect(walk.state).toEqual({ at: "connected", replid: REPLID, receivedOffset: 77 });
});

test("handshake: recognises a TLS server by its alert", () => {
  const walk = Walk.opened();
  walk.say(new Uint8Array([0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x0a]));
  expect(walk.error().message).toContain("rediss://");
});

describe("handshake: hostile answers", () => {
  const endless = "+" + "a".repeat(5000);
  const steps = { PING: [], REPLCONF: ["+PONG"], PSYNC: TO_PSYNC, header: TO_BULK };
  test.each(Object.entries(steps))("an endless line after %s is given up", (_, lines) => {
    const walk = Walk.said({}, ...lines);
    walk.say(endless);
    expect(walk.error().code).toBe("PROTOCOL");
    expect(walk.state).toEqual({ at: "connect" });
  });

  test("bytes before the link is open never trip an invariant", () => {
    const walk = new Walk();
    walk.step({ type: "follow" });
    walk.attempt();
    walk.say("+PONG\r\n");
    expect(walk.error().code).toBe("PROTOCOL");
  });

  test("nothing that a peer says is shown with its control characters", () => {
    const walk = Walk.said({}, "-ERR \x1b[2J\x07 red");
    expect(walk.error().message).toMatch(/^[\x20-\x7e]+$/);
  });

  test.each([
    ["an error of AUTH", ["+PONG", "-WRONGPASS AUTH hunter2 is wrong"]],
    ["an error of PSYNC", ["+PONG", "+OK", "+OK", "+OK", "+OK", "-ERR hunter2 may not sync"]],
    ["what is no reply", ["+PONG", "+OK", "hunter2"]],
  ])("a password is not shown in %s", (_what, lines) => {
    const walk = Walk.said({ password: "hunter2" }, ...lines);
    expect(walk.error().message).toContain("***");
    expect(walk.error().message).not.toContain("hunter2");
  });

  test("a password is not shown in a remark on what the primary refuses", () => {
    const walk = Walk.said({ password: "hunter2" }, "+PONG", "+OK", "-ERR after AUTH hunter2");
    expect(walk.notes().join()).toContain("***");
    expect(walk.notes().join()).not.toContain("hunter2");
  });

  test("a flood of keepalives is passed over, not taken one by one", () => {
    const walk = Walk.said({}, ...TO_PSYNC);
    using next = spyOn(LineReader.prototype, "next");
    walk.say("\n".repeat(100_000));
    walk.say(`\n+FULLRESYNC ${REPLID} 1\r\n${"\r\n".repeat(100_000)}$3\r\n`);
    expect(walk.done("open-snapshot").length).toBe(1);
    expect(next.mock.calls.length).toBeLessThan(10);
  });
});
