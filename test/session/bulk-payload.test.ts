import { describe, expect, test } from "bun:test";
import { ReplicaError } from "../../src/base/errors.ts";
import { GETACK, MARK, REPLID, TO_BULK, Walk, WAYS } from "./walk.ts";

const lost = new ReplicaError("LINK_LOST", { message: "the primary closed the link" });

describe("bulk payload: $<length>", () => {
  test("takes exactly that many bytes, without a CRLF; the rest of the chunk is stream", () => {
    const walk = Walk.said({}, ...TO_BULK);
    walk.say("$5\r\nhelloSTREAM");
    expect(walk.payload()).toBe("hello");
    expect(walk.stream()).toBe("STREAM");
    expect(walk.state).toMatchObject({ at: "connected", receivedOffset: 1006 });
  });

  test("a length of 0 is complete at once", () => {
    const walk = Walk.said({}, ...TO_BULK);
    walk.say("$0\r\nSTREAM");
    expect(walk.payload()).toBe("");
    expect(walk.names().filter((name) => name === "finish-snapshot")).toHaveLength(1);
    expect(walk.stream()).toBe("STREAM");
    expect(walk.state).toMatchObject({ receivedOffset: 1006 });
  });

  test("lengths go past 2^32", () => {
    const walk = Walk.said({}, ...TO_BULK, `$${2 ** 40}`);
    expect(walk.state).toMatchObject({ at: "transfer", totalBytes: 2 ** 40 });
  });

  test.each(["$-1", "$abc", "$", "$1.5", "$1e3", "$9007199254740992", "$ 5", "hello", "*1", ":5"])(
    "'%s' is refused",
    (line) => {
      const walk = Walk.said({}, ...TO_BULK, line);
      expect(walk.error().code).toBe("PROTOCOL");
      expect(walk.names()).not.toContain("open-snapshot");
    },
  );
});

describe("bulk payload: $EOF:<40 bytes>", () => {
  test("the payload ends where those 40 bytes come; they are not part of it", () => {
    const walk = Walk.said({ baseOffset: 1000 }, ...TO_BULK, `$EOF:${MARK}`);
    walk.say(`RDB${"M".repeat(38)}-body${MARK}STREAM`);
    expect(walk.payload()).toBe(`RDB${"M".repeat(38)}-body`);
    expect(walk.stream()).toBe("STREAM");
  });

  test.each([39, 41])("refuses a delimiter of %d bytes", (length) => {
    expect(Walk.said({}, ...TO_BULK, `$EOF:${"m".repeat(length)}`).error().code).toBe("PROTOCOL");
  });

  test("acknowledges at once when it is kept, then every second", () => {
    const walk = Walk.said({}, ...TO_BULK, `$EOF:${MARK}`);
    walk.say(`rdb${MARK}`);
    expect(walk.acknowledged()).toEqual([1000]);
    expect(walk.tick(900)).toEqual([]);
    walk.tick(100);
    walk.tick(990);
    expect(walk.acknowledged()).toEqual([1000, 0, 0]);
  });
});

describe("bulk payload: while the snapshot is finished", () => {
  test("the stream comes in, and nothing is acknowledged yet", () => {
    const walk = WAYS["transfer, finishing"]!();
    walk.say(`abc${GETACK}`);
    expect(walk.stream()).toBe(`abc${GETACK}`);
    expect(walk.acknowledged()).toEqual([]);
    walk.snapshotKept();
    const receivedOffset = 1003 + GETACK.length;
    expect(walk.state).toEqual({ at: "connected", replid: REPLID, receivedOffset });
    expect(walk.acknowledged()).toEqual([receivedOffset]);
  });

  test("sends the primary a keepalive every second, never more", () => {
    const walk = WAYS["transfer, finishing"]!();
    const before = walk.sent().length;
    for (let at = 0; at < 35; at++) walk.tick(100);
    expect(walk.sent().slice(before)).toEqual(["\n", "\n", "\n"]);
  });

  test("keeps the snapshot of a lost link; the next attempt resumes after it", () => {
    const walk = WAYS["transfer, finishing"]!();
    expect(walk.step({ type: "lost", error: lost })).toEqual([{ do: "close-link" }]);
    expect(walk.tick(5000)).toEqual([]);
    expect(walk.state.at).toBe("transfer");
    walk.snapshotKept();
    expect(walk.names()).not.toContain("discard-snapshot");
    expect(walk.error()).toBe(lost);
    expect(walk.state).toEqual({ at: "connect" });
  });

  test("discards the snapshot of a link that is lost earlier", () => {
    const walk = WAYS["transfer"]!();
    walk.step({ type: "lost", error: lost });
    expect(walk.names().slice(-3)).toEqual(["close-link", "discard-snapshot", "failed"]);
  });
});

describe("bulk payload: a backup asks for rdb-only", () => {
  const backup = (...lines: string[]) => Walk.said({ purpose: "snapshot-only" }, ...lines);
  const toBulk = ["+PONG", "+OK", "+OK", "-ERR version", `+FULLRESYNC ${REPLID} 1000`];

  test("announces no port and resumes nothing", () => {
    const walk = Walk.said(
      { purpose: "snapshot-only", announceIp: "::1", resume: { replid: REPLID, offset: 5 } },
      ...toBulk.slice(0, 4),
    );
    expect(walk.sent()).toEqual([
      "PING",
      "REPLCONF capa eof capa psync2",
      "REPLCONF rdb-only 1",
      "REPLCONF version 255.255.255",
      "PSYNC ? -1",
    ]);
  });

  test("announces a replica's port and address, as on its first link", () => {
    const walk = Walk.said(
      { purpose: "snapshot-only", listeningPort: 6380, announceIp: "::1" },
      "+PONG",
      "+OK",
      "+OK",
      "+OK",
      "+OK",
    );
    expect(walk.sent()).toEqual([
      "PING",
      "REPLCONF listening-port 6380",
      "REPLCONF ip-address ::1",
      "REPLCONF capa eof capa psync2",
      "REPLCONF rdb-only 1",
      "REPLCONF version 255.255.255",
    ]);
  });

  test("goes on where the primary doesn't know rdb-only", () => {
    const walk = backup("+PONG", "+OK", "-ERR Unrecognized REPLCONF option: rdb-only", "+OK");
    expect(walk.notes()).toHaveLength(1);
    expect(walk.state.at).toBe("receive-psync");
  });

  test("keeps the payload and closes the link; drops the stream, acknowledges nothing", () => {
    const walk = backup(...toBulk);
    walk.say("$3\r\nrdbSTREAM");
    expect(walk.state).toEqual({ at: "none" });
    expect(walk.names().slice(-3)).toEqual(["payload", "finish-snapshot", "close-link"]);
  });

  test("a primary that closes after the payload is no failure", () => {
    const walk = Walk.said({ purpose: "snapshot-only", storeAnswers: false }, ...toBulk, "$3");
    walk.snapshotOpened();
    walk.say("rdb");
    walk.step({ type: "lost", error: lost });
    expect(walk.tick(1000)).toEqual([]);
    walk.snapshotKept();
    expect(walk.state).toEqual({ at: "none" });
    expect(walk.names()).not.toContain("failed");
  });
});
